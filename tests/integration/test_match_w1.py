"""millrace match over the workload W1 (bench/w1), and its index after changes.

MILLRACE_TEST_CHURN=1000000 changes that many subscriptions (default 100,000)."""

import itertools
import json
import os
import subprocess

import pytest

import w1

CHURN = int(os.environ.get("MILLRACE_TEST_CHURN", "100000"))


@pytest.fixture(scope="module", name="w1_dir")
def fixture_w1_dir(tmp_path_factory):
    return w1.generate(tmp_path_factory.mktemp("w1"))


@pytest.fixture(scope="module", name="hot_dir")
def fixture_hot_dir(tmp_path_factory):
    return w1.generate(tmp_path_factory.mktemp("hot"), "--hot")


def match(subs, events, *options, text=None):
    return subprocess.run([w1.binary("millrace-match"), "--subscriptions", subs, "--events", events, *options],
                          capture_output=True, text=True, check=False, input=text)


def first(directory, count):
    """The first subscriptions as lines, and the kinds of them by id."""
    with open(directory / "subs.ndjson", encoding="ascii") as file:
        lines = list(itertools.islice(file, count))
    return "".join(lines), {sub["id"]: sub["kind"] for sub in map(json.loads, lines)}


@pytest.mark.parametrize("count", w1.EXPECTED)
def test_each_kind_of_filter_matches_what_it_should(w1_dir, count):
    lines, kinds = first(w1_dir, count)
    done = match("-", w1_dir / "events.ndjson", "--stats", "json", text=lines)
    assert done.returncode == 0
    assert w1.by_kind(done.stdout, kinds) == w1.EXPECTED[count]
    stats = json.loads(done.stderr)
    assert (stats["subscriptions"], stats["events"], stats["bad_lines"]) == (count, 20000, 0)
    assert stats["pairs"] == w1.total(w1.EXPECTED[count])[0]
    assert stats["anchors"]["always"] == 0


def test_so_it_does_in_one_collection_in_shards_and_behind_bloom_filters(hot_dir):
    lines, kinds = first(hot_dir, 10000)
    for options in ((), ("--shards", "3"), ("--bloom",)):
        done = match("-", hot_dir / "events.ndjson", *options, text=lines)
        assert w1.by_kind(done.stdout, kinds) == w1.EXPECTED_HOT, options


@pytest.mark.parametrize("count", w1.EXPECTED)
@pytest.mark.parametrize("bloom", [(), ("bloom",)], ids=["plain", "bloom"])
def test_an_index_that_was_changed_at_random_matches_as_before(w1_dir, count, bloom):
    done = subprocess.run([w1.binary("match-churn"), w1_dir, str(count), str(CHURN), *bloom], check=True,
                          capture_output=True, text=True)
    print(done.stdout)
    found = json.loads(done.stdout)
    assert (found["matches"], found["checksum"]) == w1.total(w1.EXPECTED[count])
    # Filters come in another order and hang elsewhere, but memory does not creep.
    assert found["bytes"] < found["bytes_before"] * 1.3
    if bloom and count >= 10000:
        assert found["bloom_rebuilds"] > found["bloom_rebuilds_before"]
        missing = found["bloom_rejected"] + found["bloom_false"]
        assert missing > 1000 and found["bloom_false"] < missing / 100


def test_why_a_pair_matches_is_explained(w1_dir):
    lines, _ = first(w1_dir, 1000)
    pairs = match("-", w1_dir / "events.ndjson", text=lines).stdout.splitlines()
    for pair in pairs[:20]:
        done = match("-", w1_dir / "events.ndjson", "--explain", *pair.split("\t"), text=lines)
        assert done.returncode == 0
        assert done.stdout.splitlines()[-1] == "match"
    done = match("-", w1_dir / "events.ndjson", "--explain", "0", "1", text=lines)
    assert done.stdout.splitlines()[-1] == "no match"


def test_lines_that_cannot_be_used_are_told_with_their_number(w1_dir, tmp_path):
    lines, kinds = first(w1_dir, 1000)
    lines = lines.splitlines(keepends=True)
    wrong = {3: '{"id": 5000001, "collection": "c001", "cel": "doc.price >"}\n', 10: "{\n",
             500: '{"id": 5000002, "cel": "true"}\n'}
    for number, line in wrong.items():
        lines.insert(number - 1, line)
    subs = tmp_path / "subs.ndjson"
    subs.write_text("".join(lines))
    done = match(subs, w1_dir / "events.ndjson")
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert [line.split(":")[1] for line in told] == ["3", "10", "500"]
    assert "1:12" in told[0] and '"collection": expected one' in told[2]
    assert w1.by_kind(done.stdout, kinds) == w1.EXPECTED[1000]
