"""Alert rules and dashboard: accepted by their readers, and of metrics that a running instance has."""

import json
import re
import shutil
import subprocess
import urllib.request

import pytest

from instance import ROOT
from rest import RestInstance

RULES = f"{ROOT}/etc/prometheus/millrace.rules.yml"
DASHBOARD = f"{ROOT}/etc/grafana/millrace.json"
FUNCTIONS = {"histogram_quantile", "increase", "rate", "sum", "by", "le", "or"}


def names_in(expression):
    return {n for n in re.findall(r"[a-z]\w*", re.sub(r"\[\w+\]", "", expression)) if n not in FUNCTIONS}


@pytest.fixture(scope="module")
def exposed():
    with RestInstance({"relay.listen": "127.0.0.1:0", "rest.listen": ""}) as one:
        one.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{one.http_port}/metrics", timeout=10) as page:
            text = page.read().decode()
    return text, set(re.findall(r"^([a-z]\w*)(?:\{| )", text, re.M))


def test_the_alert_rules_are_rules_of_metrics_that_there_are(exposed):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    result = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with open(RULES, encoding="utf-8") as file:
        expressions = [json.loads(m) for m in re.findall(r"expr: (\".*\")", file.read())]
    assert len(expressions) > 10
    for expression in expressions:
        assert names_in(expression) <= exposed[1], expression


def test_the_metrics_page_is_accepted_by_promtool(exposed):
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed")
    result = subprocess.run(["promtool", "check", "metrics"], input=exposed[0], capture_output=True, text=True, check=False)
    assert "error" not in result.stderr.lower() and result.returncode in (0, 3), result.stderr


def test_the_dashboard_has_what_grafana_needs_and_every_metric_of_the_table(exposed):
    with open(DASHBOARD, encoding="utf-8") as file:
        board = json.load(file)
    assert board["title"] and board["uid"] and board["schemaVersion"] >= 36
    ids, shown = [], set()
    for panel in board["panels"]:
        ids.append(panel["id"])
        place = panel["gridPos"]
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24 and place["h"] > 0
        if panel["type"] == "row":
            continue
        assert panel["type"] == "timeseries" and panel["title"] and panel["targets"]
        for target in panel["targets"]:
            assert names_in(target["expr"]) <= exposed[1], target["expr"]
            shown |= names_in(target["expr"])
    assert len(ids) == len(set(ids))
    with open(f"{ROOT}/shm/counters.def", encoding="utf-8") as file:
        table = re.findall(r'^(COUNTER|HISTOGRAM)\(.*?"([a-z_]+)"', file.read(), re.M)
    assert {name + ("_bucket" if kind == "HISTOGRAM" else "") for kind, name in table} <= shown
