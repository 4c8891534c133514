"""schemathesis drives the REST control plane by its own OpenAPI document: no server error, no answer that the document
does not state. MILLRACE_TEST_OPENAPI_CALLS: how many calls for each kind of client (default 45; by hand 5000)."""

import json
import os
import re
import subprocess
import sys
import venv

import pytest

from rest import RestInstance

VERSION = "3.39.16"
PINNED = [f"schemathesis=={VERSION}", "hypothesis==6.125.3", "hypothesis-jsonschema==0.23.1"]
CALLS = int(os.environ.get("MILLRACE_TEST_OPENAPI_CALLS", "45"))
TOKEN = "a token of more than sixteen characters"
SKIPPED_CHECKS = ["ignored_auth"]  # whose tokens reach how far: tests/security


@pytest.fixture(scope="module")
def schemathesis():
    """The command, in an environment of its own that is kept for the next time."""
    home = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "millrace", f"schemathesis-{VERSION}")
    command = os.path.join(home, "bin", "st")
    if not os.path.exists(command):  # made by pip as its last step
        try:
            venv.create(home, with_pip=True)
            subprocess.run([os.path.join(home, "bin", "pip"), "install", "-q", *PINNED],
                           check=True, capture_output=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"schemathesis {VERSION} cannot be had: {error}")
    return command


@pytest.mark.parametrize("token", [None, TOKEN, "another token, that nobody knows"], ids=["open", "token", "wrong token"])
def test_the_server_does_what_its_document_says(schemathesis, token):
    settings = {"rest.request_timeout": "10m", **({"auth.token": TOKEN} if token else {})}  # it thinks long between calls
    with RestInstance(settings) as one:
        one.start()
        with one.connect(token=TOKEN) as rest:
            operations = sum(len([m for m in item if m != "parameters"])
                             for item in rest.ask("GET", "/openapi.json").json["paths"].values())
        arguments = [schemathesis, "run", f"http://127.0.0.1:{one.rest_port}/openapi.json", "--checks", "all",
                     "--exclude-checks", ",".join(SKIPPED_CHECKS), "--hypothesis-max-examples", str(max(5, CALLS // operations)),
                     "--hypothesis-seed", "1", "--hypothesis-suppress-health-check", "all", "--hypothesis-deadline", "None",
                     "--data-generation-method", "all", "--workers", "1"]
        if token:
            arguments += ["-H", f"Authorization: Bearer {token}"]
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=1500, check=False, cwd=one.dir,
                                env={**os.environ, "NO_COLOR": "1", "SCHEMATHESIS_HOOKS": "openapi_hooks",
                                     "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))})
        checked = re.search(r"not_a_server_error +(\d+) / (\d+)", result.stdout)
        print(json.dumps({"calls": checked and int(checked[2]), "token": bool(token)}), file=sys.stderr)
        assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
        assert checked and int(checked[2]) >= CALLS // 2
        with one.connect(token=TOKEN) as rest:
            assert rest.ask("GET", "/internal/v1/subscriptions").status == 200
        assert all(p["restarts"] == 0 for p in one.status()["processes"])
