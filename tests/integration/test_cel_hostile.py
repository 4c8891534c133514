"""Hostile expressions through millrace-cel with 64 KiB of stack: a limit by its name, or an end at once."""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cel"))
import hostile  # noqa: E402
from instance import bin_dir  # noqa: E402

STACK_BYTES = 64 * 1024
TIME_MS = 10
MEMORY_KB = 8 * 1024


class Command:
    """One process, asked line by line; its stack is small and its environment empty."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["prlimit", f"--stack={STACK_BYTES}:{STACK_BYTES}", f"{bin_dir()}/millrace-cel", "--ndjson", "--line-buffered"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})

    def ask(self, case):
        self.process.stdin.write(json.dumps(case).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the command ended: {self.process.wait()}, asked {str(case)[:200]}"
        return json.loads(line)

    def cpu_ms(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e6

    def peak_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0


def overhead(command, case):
    """What reading the line alone costs: the same bytes, in a comment of nothing."""
    before = command.cpu_ms()
    command.ask({**case, "expr": "", "padding": case["expr"]})
    return command.cpu_ms() - before


def cost(name, expr):
    """Processor time and memory of one expression in a process of its own, and its answer."""
    command = Command()
    case = {"id": name, "expr": expr, "doc": hostile.document()}
    command.ask({"id": "warm", "expr": "doc.n == 1 && 'a'.matches('a')", "doc": hostile.document()})
    reading = overhead(command, case)
    cpu, peak = command.cpu_ms(), command.peak_kb()
    answer = command.ask(case)
    spent, memory = command.cpu_ms() - cpu - reading, command.peak_kb() - peak
    command.close()
    return spent, memory, name, answer


def test_every_hostile_expression_is_refused_or_ends_at_once():
    report = []
    for name, expr in hostile.cases():
        row = cost(name, expr)
        for _ in range(4):  # a busy machine makes anything slow for once
            if row[0] > TIME_MS:
                row = min(row, cost(name, expr), key=lambda r: r[0])
        report.append(row)
    for spent, memory, name, answer in sorted(report, key=lambda r: -r[0])[:12]:
        print(f"{spent:8.2f} ms {memory:6d} kB  {name}: {str(answer.get('error', answer.get('value')))[:90]}")
    slow = [(row[2], round(row[0], 1)) for row in report if row[0] > TIME_MS]
    large = [(row[2], row[1]) for row in report if row[1] > MEMORY_KB]
    assert not slow
    assert not large
    assert len(report) >= 63


def test_limits_are_named():
    named = {"ors": False, "a billion turns": True, "lists": True, "one long string": True, "lists doubled": True}
    command = Command()
    for name, expr in hostile.cases():
        if not named.get(name, False):
            continue
        answer = command.ask({"id": name, "expr": expr, "doc": hostile.document()})
        assert answer["error"]["stage"] == "limit", (name, answer)
        assert "limit" in answer["error"]["message"], (name, answer)
    command.close()


def test_expressions_that_are_no_utf_8_are_refused():
    command = Command()
    for raw in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"'\x80'"):
        command.process.stdin.write(b'{"id":"raw","expr":"' + raw + b'"}\n')
        command.process.stdin.flush()
        assert "error" in json.loads(command.process.stdout.readline())
    assert command.ask({"id": "after", "expr": "1"})["value"] == {"int64": "1"}
    command.close()
