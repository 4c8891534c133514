"""docs/cel-errors.md: what is said about typical mistakes, word for word. scripts/gen-docs errors writes it."""
import os
import re

import pytest

from cel_mistakes import MISTAKES, VARIABLES
from cel_syntax import Syntax
from error_page import cell
from instance import ROOT

PAGE = os.path.join(ROOT, "docs", "cel-errors.md")
LEAST = 60
LIMIT = re.compile(r'MR_CEL_LIMIT\((\w+), (\w+), (\d+), "(.*?)",\s*"(.*?)"\)')


@pytest.fixture(scope="module")
def answers():
    with Syntax(VARIABLES) as syntax:
        return {expression: syntax.ask("type", expression)
                for mistakes in MISTAKES.values() for expression, _ in mistakes}


def test_every_mistake_is_refused_with_a_place_in_the_expression(answers):
    for expression, answer in answers.items():
        assert answer.what in ("parse", "check"), expression
        lines = expression.split("\n")
        assert 1 <= answer.line <= len(lines), expression
        assert 1 <= answer.column <= len(lines[answer.line - 1]) + 1, expression


def test_every_message_says_what_was_expected_or_meant(answers):
    helps = re.compile("expected|did you mean|writ(e|ten)|takes|does not fit|not closed|makes a string|parts of it|holds|"
                       "only maps have|two different|is for|a value is|not a Unicode|does not depend|one value")
    silent = [(expression, answer.text) for expression, answer in answers.items() if not helps.search(answer.text)]
    assert not silent


def compare(name, table):
    """The part of the page between its two marks is this table, or becomes it."""
    begin, end = f"<!-- {name}: from tests/integration -->\n", f"<!-- end of {name} -->\n"
    with open(PAGE, encoding="utf-8") as page:
        before, found, rest = page.read().partition(begin)
    old, found_end, after = rest.partition(end)
    assert found and found_end, f"docs/cel-errors.md has no part {name}"
    if os.environ.get("MILLRACE_TEST_WRITE_ERRORS"):
        with open(PAGE, "w", encoding="utf-8") as page:
            page.write(before + begin + table + end + after)
        return
    differences = [line for line in table.splitlines() if line not in old.splitlines()]
    assert old == table, "docs/cel-errors.md says something else (scripts/gen-docs errors):\n" + "\n".join(differences)


def test_the_page_says_what_is_said(answers):
    assert len(answers) >= LEAST
    rows = []
    for section, mistakes in MISTAKES.items():
        rows += [f"\n### {section}", "| expression | place | what is said | meant |", "|---|---|---|---|"]
        rows += [f"| {cell(expression, True)} | {answers[expression].line}:{answers[expression].column} | "
                 f"{cell(answers[expression].text, True)} | {cell(meant)} |" for expression, meant in mistakes]
    compare("mistakes", "\n".join(rows)[1:] + "\n")


def test_the_page_has_every_limit():
    with open(os.path.join(ROOT, "cel", "limits.def"), encoding="utf-8") as table:
        limits = LIMIT.findall(table.read())
    assert limits
    rows = ["| limit | default | what it bounds |", "|---|---|---|"]
    rows += [f"| `{member}` | {value} {unit}".rstrip() + f" | {text} |" for _, member, value, unit, text in limits]
    compare("limits", "\n".join(rows) + "\n")


def test_the_place_is_shown_under_the_line():
    with Syntax(VARIABLES, render=True) as syntax:
        text = syntax.ask("type", 'age > 3 &&\n  nmae.startsWith("A")').text
    assert text == ("2:3: unknown name nmae; did you mean name?\n"
                    ' |   nmae.startsWith("A")\n'
                    " |   ^~~~\n")
