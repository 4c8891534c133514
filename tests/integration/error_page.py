"""docs/errors.md: one section a test module, made of what the tests saw on real processes.

A module adds a row for each thing it breaks, and its last test calls check(): it fails when there are fewer
rows than promised, or when the page says anything else than what was seen. With MILLRACE_TEST_WRITE_ERRORS=1
(scripts/gen-docs errors) the section is written instead."""

import os
import re

import pytest

from instance import ROOT

PAGE = os.path.join(ROOT, "docs", "errors.md")
# What differs from run to run, and what stands for it. What a test alone knows, it replaces before.
UNSTABLE = [
    (re.compile(r"/tmp/millrace-[\w-]+/data"), "DATA_DIR"),
    (re.compile(r"/tmp/millrace-[\w-]+"), "DIR"),
    (re.compile(r"\b(127\.0\.0\.1|localhost):\d{4,5}\b"), r"\1:PORT"),
    (re.compile(r"\bport \d+"), "port PORT"),
    (re.compile(r"\.s\.PGSQL\.\d+"), ".s.PGSQL.PORT"),
    (re.compile(r"\b[0-9A-F]{1,8}/[0-9A-F]{5,8}\b"), "LSN"),
    (re.compile(r"\b(pid|PID|server process|by process|with PID) \d+"), r"\1 PID"),
    (re.compile(r"\b(cluster|from cluster|of cluster) \d{10,}"), r"\1 ID"),
    (re.compile(r"\bt[0-9a-f]{12}\b"), "NAME"),
    (re.compile(r"\breserve \d+ bytes"), "reserve N bytes"),
]


def stable(text):
    for pattern, instead in UNSTABLE:
        text = pattern.sub(instead, text)
    return text


def cell(text, code=False):
    """Text for a cell of a Markdown table; code: word for word."""
    shown = "".join(c if c.isprintable() else {"\n": "\\n", "\t": "\\t"}.get(c, f"\\x{ord(c):02x}")
                    for c in text.strip("\n"))
    shown = shown.replace("|", "\\|")
    if not code:
        return shown
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`" if shown.strip() else "(empty)"


class Section:
    """`columns`: name -> whether it is shown word for word. `least`: how many rows there must be."""

    def __init__(self, name, least, columns):
        self.name, self.least, self.columns = name, least, columns
        self.rows = {}
        self.skipped = ""

    def skip(self, why):
        """End the test that calls it: this machine cannot show its row."""
        self.skipped = why
        pytest.skip(why)

    def add(self, key, *values):
        assert key not in self.rows, f"{key}: seen twice"
        assert len(values) == len(self.columns)
        self.rows[key] = [cell(stable(text), code) for text, code in zip(values, self.columns.values())]

    def text(self, order):
        keys = order or list(self.rows)
        lines = ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        return "\n".join(lines + ["| " + " | ".join(self.rows[key]) + " |" for key in keys])

    def check(self, request, order=None):
        """order: the keys as the page shall have them; every one must have been seen."""
        if request.config.getoption("keyword") or any("::" in chosen for chosen in request.config.args):
            pytest.skip("a part of the tests was chosen")
        if self.skipped:
            pytest.skip(f"rows are missing: {self.skipped}")
        missing = [key for key in order or [] if key not in self.rows]
        assert not missing, f"not brought about: {missing}"
        assert len(self.rows) >= self.least, f"{len(self.rows)} rows, {self.least} are promised"
        begin, end = f"<!-- {self.name}: from tests/integration -->\n", f"\n<!-- end of {self.name} -->"
        with open(PAGE, encoding="utf-8") as page:
            before, found, rest = page.read().partition(begin)
        old, found_end, after = rest.partition(end)
        assert found and found_end, f"docs/errors.md has no section {self.name}"
        new = self.text(order)
        if os.environ.get("MILLRACE_TEST_WRITE_ERRORS"):
            with open(PAGE, "w", encoding="utf-8") as page:
                page.write(before + begin + new + end + after)
            return
        differences = [line for line in new.splitlines() if line not in old.splitlines()]
        assert old == new, ("docs/errors.md says something else; run scripts/gen-docs errors. Seen now:\n"
                            + "\n".join(differences[:20]))
