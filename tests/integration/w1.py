"""What matches in the workloads of bench/w1: of the first N subscriptions, by kind, how many pairs of an event and a
subscription, and the sum of event * 1000003 + subscription over them, modulo 2^64. Found by an evaluator of its own
for each kind, which knows nothing of an index."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPECTED = {
    1000: {"eq_user": (2, 26105079148), "conj": (312, 2958324041363), "range": (50, 521623582623),
           "in": (91, 863787630519), "prefix": (94, 1000751052298), "or": (29, 255055787007)},
    10000: {"eq_user": (12, 110163378426), "eq_author": (11, 126910428984), "conj": (3352, 32043456925932),
            "range": (600, 5816021470659), "in": (755, 7512800365540), "prefix": (805, 8150425458075),
            "or": (379, 3727883218318)},
    100000: {"eq_user": (131, 1311247871933), "eq_author": (140, 1392925592569), "conj": (34493, 334794290175965),
             "range": (6080, 60122860547905), "in": (7640, 76331409389311), "prefix": (8227, 82470540030379),
             "or": (3483, 34680961407027)},
}
EXPECTED_HOT = {"eq_user": (343, 863428260499), "eq_author": (296, 706991635451), "conj": (85144, 216228486336787),
                "range": (14787, 36605195837980), "in": (18677, 47032041384197), "prefix": (20832, 52038662155461),
                "or": (9370, 22658083853565)}


def generate(directory, *options):
    subprocess.run([ROOT / "bench/w1", directory, *options], check=True)
    return directory


def total(kinds):
    """Over all kinds: pairs, checksum."""
    return sum(count for count, _ in kinds.values()), sum(checksum for _, checksum in kinds.values()) % 2**64


def by_kind(pairs, kinds):
    """Lines "event TAB subscription" of millrace match, counted like EXPECTED. kinds: by subscription id."""
    found = {}
    for line in pairs.splitlines():
        event, sub = map(int, line.split("\t"))
        count, checksum = found.get(kinds[sub], (0, 0))
        found[kinds[sub]] = (count + 1, (checksum + event * 1000003 + sub) % 2**64)
    return found


def binary(name):
    return pathlib.Path(os.environ.get("MILLRACE_TEST_BIN", ROOT / "build/bin")) / name
