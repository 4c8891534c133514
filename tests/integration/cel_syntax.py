"""bin/cel-syntax, the front end of CEL from outside: one process, asked expression by expression."""
import os
import subprocess

from instance import bin_dir

ALL_LIBRARIES = -1
NO_LIBRARIES = 0


class Answer:
    def __init__(self, what, line, column, text):
        self.what, self.line, self.column, self.text = what, line, column, text
        self.ok = what == "ok"


class Syntax:
    """variables: "name:type" each. render: the text of an error has its line and caret."""

    def __init__(self, variables=(), render=False):
        path = os.path.join(bin_dir(), "cel-syntax")
        arguments = [path] + (["--render"] if render else []) + list(variables)
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert self.process.wait(timeout=10) == 0

    def ask(self, mode, expression, libraries=ALL_LIBRARIES):
        """mode: "ast" for the tree, "type" for the type."""
        source = expression.encode("utf-8", "surrogatepass")
        self.process.stdin.write(f"{mode} {libraries} {len(source)}\n".encode() + source)
        self.process.stdin.flush()
        head = self.process.stdout.readline().decode().split()
        assert len(head) == 4, f"cel-syntax ended; asked {expression!r}"
        text = self.process.stdout.read(int(head[3])).decode("utf-8", "replace")
        return Answer(head[0], int(head[1]), int(head[2]), text)
