#!/usr/bin/python3
"""Run the CEL specification's conformance suite against millrace-cel and write docs/cel-conformance.md.

usage: conformance.py [--bin DIR] [--failures] [--keep]
  --failures  print each case that fails
  --keep      compare only, leave the page as it is

Fails when fewer cases of a file pass than the page says, or when the page's failures do not name all that fail.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import compare  # noqa: E402
import suite  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/cel-conformance.md"

# Cases on which implementations differ, and the rule by which we decide. All of them pass here.
DISPUTED = {
    "fields/qualified_identifier_resolution/map_key_float": "a map's keys are bool, int, uint or string",
    "fields/qualified_identifier_resolution/map_key_null": "a map's keys are bool, int, uint or string",
    "fields/qualified_identifier_resolution/map_value_repeat_key": "a map literal with a key twice is an error",
    "fields/qualified_identifier_resolution/map_value_repeat_key_heterogeneous": "0 and 0u are one key",
    "timestamps/duration_converters/get_milliseconds":
        "getMilliseconds() of a duration is the part behind the seconds",
    "optionals/optionals/map_optional_select_has": "has() of an optional selection tests what is inside",
    "string_ext/value_errors/indexof_out_of_range": "an offset behind the string's end is an error",
    "string_ext/value_errors/lastindexof_out_of_range": "an offset behind the string's end is an error",
}

INTRO = """# CEL conformance

Written by `tests/cel/conformance.py`, which `./scripts/test` runs: the conformance suite of the CEL
specification ({source}), fetched by package name, driven through `millrace cel --ndjson` in one process.
The run fails when a count falls.

| part | what | passed |
|---|---|---|
"""

PARTS = {
    "core": "the language and its standard library, without protocol-buffer messages",
    "ext": "extension libraries: strings, math, lists, encoders, bindings, optionals, two-variable comprehensions",
    "typecheck": "deduced types",
    "network": "network addresses",
    "block": "cel.block, which optimizers write",
    "protobuf": "protocol-buffer messages and enums: left out",
}

WHY = """
Left out: cases that construct, select from or convert protocol-buffer messages, their enums and wrappers. A document
pipeline has no message types: its values are BSON documents. A case counts as such when its expression, its variables
or its result cannot be written down without a message.
"""


def run_cases(binary, cases):
    """The command's answer to every case, by id."""
    lines = "".join(json.dumps(case["line"]) + "\n" for case in cases)
    done = subprocess.run([binary, "--ndjson"], input=lines, capture_output=True, text=True, timeout=120, check=False)
    answers = {}
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        answers[answer["id"]] = answer
    if done.returncode != 0:
        print(f"millrace-cel ended with {done.returncode}: {done.stderr[-500:]}", file=sys.stderr)
    return answers


def passes(case, answer):
    if answer is None:
        return False
    expect = case["expect"]
    if "error" in expect:
        return "error" in answer
    if "type" in expect and answer.get("type", "").replace(" ", "") != expect["type"].replace(" ", ""):
        return False
    if case["check_only"] or "value" not in expect:
        return "type" in answer and answer.get("error", {}).get("stage") in (None, "eval")
    return "value" in answer and compare.same(answer["value"], expect["value"])


def table(cases, passed):
    """Rows of file, counts by part."""
    files = sorted({case["file"] for case in cases})
    text = ["", "| file | " + " | ".join(suite.TIERS[:-1]) + " | left out |", "|---|" + "---|" * len(suite.TIERS)]
    for file in files:
        row = []
        for tier in suite.TIERS:
            of = [case for case in cases if case["file"] == file and case["tier"] == tier]
            ok = sum(case["id"] in passed for case in of)
            row.append("" if not of else str(len(of)) if tier == "protobuf" else f"{ok} of {len(of)}")
        text.append(f"| {file} | " + " | ".join(row) + " |")
    return "\n".join(text) + "\n"


def page(source, cases, passed):
    text = INTRO.format(source=source)
    for tier, what in PARTS.items():
        of = [case for case in cases if case["tier"] == tier]
        ok = sum(case["id"] in passed for case in of)
        text += f"| {tier} | {what} | " + (f"{len(of)} left out" if tier == "protobuf" else f"{ok} of {len(of)}") + " |\n"
    text += table(cases, passed) + WHY
    text += "\n## Disputed cases\nImplementations differ on these; the specification's text decides.\n\n"
    text += "| case | rule | here |\n|---|---|---|\n"
    for name, rule in DISPUTED.items():
        text += f"| {name} | {rule} | {'passes' if name in passed else 'fails'} |\n"
    failed = [case for case in cases if case["tier"] != "protobuf" and case["id"] not in passed]
    text += "\n## Failures\n" + ("".join(f"- {case['id']}: `{case['line']['expr']}`\n" for case in failed) or "None.\n")
    return text


def recorded():
    """Passed cases of each file and part that the page says, {(file, column): count}."""
    counts = {}
    if PAGE.exists():
        for line in PAGE.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            for column, cell in enumerate(cells[1:]):
                found = re.fullmatch(r"(\d+) of \d+", cell)
                if found and len(cells) == len(suite.TIERS) + 1:
                    counts[cells[0], column] = int(found[1])
    return counts


def fallen(cases, passed):
    """What passed once and does not now."""
    lost = []
    for (file, column), count in recorded().items():
        now = sum(case["id"] in passed for case in cases
                  if case["file"] == file and case["tier"] == suite.TIERS[column])
        total = sum(case["file"] == file and case["tier"] == suite.TIERS[column] for case in cases)
        if now < min(count, total):
            lost.append(f"{file} ({suite.TIERS[column]}): {now} of {total} pass, {count} did")
    return lost


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bin", default=str(ROOT / "build/bin"))
    options.add_argument("--failures", action="store_true")
    options.add_argument("--keep", action="store_true")
    chosen = options.parse_args()
    try:
        cases, source = suite.cases()
    except suite.Unavailable as why:
        print(f"skipped: {why}")
        return 77
    wanted = [case for case in cases if case["tier"] != "protobuf"]
    answers = run_cases(f"{chosen.bin}/millrace-cel", wanted)
    passed = {case["id"] for case in wanted if passes(case, answers.get(case["id"]))}
    for tier in suite.TIERS[:-1]:
        of = [case for case in wanted if case["tier"] == tier]
        print(f"{tier}: {sum(case['id'] in passed for case in of)} of {len(of)}")
    print(f"left out: {len(cases) - len(wanted)}")
    if chosen.failures:
        for case in wanted:
            if case["id"] not in passed:
                print(json.dumps({"case": case["line"], "expect": case["expect"], "answer": answers.get(case["id"])}))
    lost = fallen(cases, passed)
    for line in lost:
        print(f"fewer than before: {line}")
    if not lost and not chosen.keep and source.startswith(suite.GO_MODULE):
        PAGE.write_text(page(source, cases, passed))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
