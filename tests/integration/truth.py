"""What subscribers must get: PostgreSQL's own account of a slot, read independently of millrace by
pg_recvlogical with test_decoding, and the filters applied to it by plain Python."""

import json
import os
import re
import subprocess

from pg import bin_dir as pg_bin

COLUMN = re.compile(r"(\w+)\[([^\]]*(?:\[\])?)\]:('(?:[^']|'')*'|[^ ]+)")
OPERATIONS = {1: "insert", 2: "update", 4: "delete", 100: "truncate", 101: "gap"}


def create_slot(connection, name):
    connection.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (name,))


def value_of(kind, text):
    if text == "null":
        return None
    if text.startswith("'"):
        return text[1:-1].replace("''", "'")
    if kind == "boolean":
        return text == "true"
    if kind in ("integer", "bigint", "smallint"):
        return int(text)
    return float(text)


def columns(text):
    return {name: value_of(kind, value) for name, kind, value in COLUMN.findall(text)}


def translate(op, old, new):
    """Soft delete and recreation: docs/design.md."""
    if op == "update" and new.get("deleted") is True:
        return "delete"
    if op == "update" and old.get("deleted") is True and new.get("deleted") is not True:
        return "insert"
    return op


def drain(connection, name):
    """What pg_recvlogical writes of everything that is committed by now. The tables of tests hold no line breaks."""
    end = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()[0]
    done = subprocess.run([os.path.join(pg_bin(), "pg_recvlogical"), "-d", connection.info.dsn, "--slot", name,
                           "--start", "--endpos", end, "-o", "include-xids=0", "-f", "-"],
                          check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def read_slot(connection, name):
    """All changes in commit order: a list of (op, table, document)."""
    events = []
    for line in drain(connection, name):
        if not line.startswith("table "):
            continue
        tables, op, rest = re.match(r"table ([^:]+): (\w+):(.*)$", line).groups()
        if op == "TRUNCATE":
            events += [("truncate", t.strip().removeprefix("public."), {}) for t in tables.split(",")]
            continue
        table, op = tables.removeprefix("public."), op.lower()
        old_text, _, new_text = rest.rpartition(" new-tuple:")
        old = columns(old_text.split("old-key:")[-1]) if old_text else {}
        new = columns(new_text)
        events.append((translate(op, old, new), table, new))
    return events


def holds(document, field, op, value):
    have = document
    for part in field.split("."):
        if not isinstance(have, dict) or part not in have:
            return False
        have = have[part]
    if have is None and value is not None:
        return op == "!="
    if op == "==":
        return have == value
    if op == "!=":
        return have != value
    if op == "in":
        return have in value
    if isinstance(have, str) != isinstance(value, str):
        return False
    return {"<": have < value, "<=": have <= value, ">": have > value, ">=": have >= value}[op]


def expected(subscriptions, events):
    """subscription id -> [(op, document id, n)] in commit order."""
    out = {s.id: [] for s in subscriptions}
    by_value, others = {}, {}
    for sub in subscriptions:
        key = next(((f, v) for f, op, v in sub.filters if op == "==" and f != "_id"), None)
        if key:
            by_value.setdefault(sub.collection, {}).setdefault(key[0], {}).setdefault(key[1], []).append(sub)
        else:
            others.setdefault(sub.collection, []).append(sub)
    for op, table, document in events:
        if op == "truncate":
            for sub in subscriptions:
                if sub.collection == table:
                    out[sub.id].append((op, "", None))
            continue
        candidates = list(others.get(table, ()))
        for field, values in by_value.get(table, {}).items():
            candidates += values.get(document.get(field), ())
        for sub in candidates:
            ident = str(document["id"])
            if all((f == "_id" and ident == v) if f == "_id" else holds(document, f, o, v)
                   for f, o, v in sub.filters):
                out[sub.id].append((op, ident, document.get("n")))
    return out


def received(subscription):
    """[(op, document id, n)] in the order of arrival, repeats left out."""
    out = []
    for _, event in subscription.got:
        op = OPERATIONS[event.operation]
        document = json.loads(event.document_data) if event.document_data else {}
        out.append((op, event.document_id, document.get("n") if op != "truncate" else None))
    return out


def compare(subscriptions, events):
    """[(subscription id, what is wrong)]: empty when everyone got exactly his events in order."""
    wrong = []
    wanted = expected(subscriptions, events)
    for sub in subscriptions:
        want, have = wanted[sub.id], received(sub)
        if want == have:
            continue
        lost = len(set(want) - set(have))
        extra = len(set(have) - set(want))
        first = next((i for i, (a, b) in enumerate(zip(want, have)) if a != b), min(len(want), len(have)))
        wrong.append((sub.id, f"wanted {len(want)}, got {len(have)}: {lost} lost, {extra} not wanted, first "
                              f"difference at {first}: wanted {want[first:first + 3]}, got {have[first:first + 3]}"))
    return wrong
