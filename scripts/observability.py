"""What watches millrace, derived from the rows of shm/counters.def: alert rules for Prometheus and a dashboard for
Grafana. Counters are named by their symbol, so a rule of one that is gone cannot be written. Called by gen-docs."""

import json
import re

# Not in the table: every process and every ring has them (shm/prometheus.c).
COMMON = {"UP": "millrace_process_up", "RESTARTS": "millrace_process_restarts_total",
          "RESIDENT": "millrace_process_resident_memory_bytes", "CPU": "millrace_process_cpu_seconds_total",
          "HEARTBEAT": "millrace_process_heartbeat_timestamp_seconds", "FDS": "millrace_process_open_fds",
          "RING_FILL": "millrace_ring_fill_bytes", "RING_CAPACITY": "millrace_ring_capacity_bytes",
          "RING_STALLS": "millrace_ring_stalls_total"}

# name, expression, how long, severity, summary, what to do
ALERTS = [
    ("ProcessDown", "<UP> == 0", "30s", "critical", "{{ $labels.process }} is not running.",
     "Look at its state and text in `shmstat`, then at the log of the supervisor."),
    ("ProcessRestarts", "increase(<RESTARTS>[10m]) > 3", "0m", "warning", "{{ $labels.process }} is restarted again and again.",
     "The supervisor's log says how it died."),
    ("SourceDisconnected", "<SOURCE_CONNECTED> == 0", "2m", "critical", "The source has been away for two minutes.",
     "Nothing is lost while it keeps its log. See the page of the source."),
    ("SourceSilent", "rate(<SOURCE_EVENTS>[5m]) == 0", "2m", "warning", "No event has come from the source for five minutes.",
     "Expected when nobody writes; else look at the publication, the slot or the file."),
    ("SourceGap", "increase(<SOURCE_GAPS>[10m]) > 0", "0m", "critical", "Changes were lost at the source.",
     "Every subscriber concerned was told by a gap event and has to read its state anew."),
    ("LogNotDurable", "<LOG_LAST> - <LOG_DURABLE> > 100000", "1m", "warning", "The disk does not keep up with the source.",
     "Look at the disk's latency and at log.commit_interval."),
    ("FeedBehind", "<LOG_LAST> - <FEED_SEQUENCE> > 100000", "2m", "warning", "The rings are fed from the disk: matching or delivery is slower than the source.",
     "Which stage stands still? docs/operations.md."),
    ("RingFull", "<RING_FILL> / <RING_CAPACITY> > 0.95", "5m", "warning", "Ring {{ $labels.ring }} is full: backpressure reaches the source.",
     "More shards (millrace scale), or a slow sink."),
    ("MatchingSlow", "histogram_quantile(0.99, sum by (le) (rate(<MATCH_TIME>_bucket[5m]))) > 0.05", "5m", "warning",
     "Matching one event takes more than 50 ms at the 99th percentile.", "Which expressions cost so much? docs/matching.md."),
    ("MatchErrors", "rate(<MATCH_ERRORS>[5m]) > 10", "10m", "warning", "Filters end in errors, which count as no match.",
     "Explain an event over the control plane to see whose."),
    ("DeliverySlow", "histogram_quantile(0.99, sum by (le) (rate(<SOURCE_TO_SENT>_bucket[5m]))) > 0.2", "5m", "warning",
     "From the source to the sink it takes more than 200 ms at the 99th percentile.", "Compare the histograms of the stages."),
    ("GatewaysCut", "increase(<GATEWAYS_CUT>[5m]) > 5", "0m", "warning", "Gateways are cut off because they do not read.",
     "They come back with their marker; if it goes on they are too slow for what they subscribe to."),
    ("Undelivered", "rate(<DROPS>[5m]) > 10", "5m", "warning", "Durable subscriptions match while nobody speaks for their gateways.",
     "They go on from the log when a gateway comes with its marker, as long as the log reaches back."),
    ("QuotaRefusals", "increase(<QUOTA_REFUSALS>[5m]) > 0", "5m", "warning", "Subscriptions are refused because of a quota.",
     "docs/rest.md names the limits."),
    ("StoreErrors", "increase(<STORE_ERRORS>[5m]) > 0", "0m", "critical", "The subscription store cannot keep changes.",
     "Disk full? Registrations are refused with 503 meanwhile."),
    ("CheckpointErrors", "increase(<CHECKPOINT_ERRORS>[5m]) > 0", "0m", "critical", "Checkpoints cannot be written.",
     "The source keeps its log for us: look at the disk under instance.data_dir."),
    ("BreakerOpen", "<JS_BREAKER> == 1 or <FANOUT_BREAKER> == 1", "1m", "critical", "A circuit breaker towards NATS is open.",
     "Deliveries wait in the log and follow when NATS is back."),
]

# title, unit, expressions with their legends
PANELS = [
    ("Processes", None),
    ("Up", "short", [("<UP>", "{{process}} {{shard}}")]),
    ("Restarts", "short", [("increase(<RESTARTS>[10m])", "{{process}} {{shard}}")]),
    ("Memory", "bytes", [("<RESIDENT>", "{{process}} {{shard}}")]),
    ("CPU", "percentunit", [("rate(<CPU>[1m])", "{{process}} {{shard}}")]),
    ("From source to sink", None),
    ("Events a second", "ops", [("rate(<SOURCE_EVENTS>[1m])", "source"), ("sum(rate(<MATCH_EVENTS>[1m]))", "matched"),
                                ("rate(<EVENTS_MERGED>[1m])", "merged"), ("rate(<DELIVERIES>[1m])", "delivered")]),
    ("Behind, events", "short", [("<LOG_LAST> - <LOG_DURABLE>", "not durable"), ("<LOG_LAST> - <FEED_SEQUENCE>", "not fed"),
                                 ("<LOG_LAST> - <CHECKPOINT_SEQUENCE>", "behind the checkpoint")]),
    ("p99 by stage", "s", [(f"histogram_quantile(0.99, sum by (le) (rate(<{stage}>_bucket[1m])))", legend) for stage, legend in (
        ("SOURCE_TO_LOG", "source to log"), ("SOURCE_TO_RING", "source to ring"), ("RING_TO_MATCH", "source to match"),
        ("SOURCE_TO_MERGED", "source to merged"), ("SOURCE_TO_SENT", "source to sink"))]),
    ("Rings, share in use", "percentunit", [("<RING_FILL> / <RING_CAPACITY>", "{{ring}}")]),
    ("Subscriptions", None),
    ("Subscriptions", "short", [("<SUBSCRIPTIONS>", "all"), ("<DURABLE>", "durable")]),
    ("Registered and ended a second", "ops", [("rate(<SUBSCRIBE>[1m])", "registered"), ("rate(<UNSUBSCRIBE>[1m])", "ended"),
                                             ("rate(<EXPIRED>[1m])", "expired"), ("rate(<SUBSCRIBE_REJECTED>[1m])", "refused")]),
    ("Gateways", "short", [("<GATEWAYS>", "streams"), ("increase(<GATEWAYS_CUT>[5m])", "cut in 5 min")]),
    ("Matching time", "s", [("histogram_quantile(0.5, sum by (le) (rate(<MATCH_TIME>_bucket[1m])))", "p50"),
                            ("histogram_quantile(0.99, sum by (le) (rate(<MATCH_TIME>_bucket[1m])))", "p99")]),
]


def fill(expression, names):
    return re.sub(r"<(\w+)>", lambda match: names[match[1]], expression)


def alerts(names):
    out = ["# Alert rules for Prometheus. Generated from shm/counters.def by scripts/gen-docs; a test compares the two.",
           "groups:", "  - name: millrace", "    rules:"]
    for name, expression, duration, severity, summary, action in ALERTS:
        out += [f"      - alert: Millrace{name}", f"        expr: {json.dumps(fill(expression, names))}",
                f"        for: {duration}", "        labels:", f"          severity: {severity}", "        annotations:",
                f"          summary: {json.dumps(summary)}", f"          description: {json.dumps(action)}"]
    return "\n".join(out) + "\n"


def panel(number, place, title, unit, targets):
    return {"id": number, "type": "timeseries", "title": title, "gridPos": place,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": targets}


def dashboard(rows, names):
    """rows: (name, kind, kept by, help) of every counter; those with a place of their own come first, then all others."""
    panels, left, top, used = [], 0, 0, set()

    def put(title, unit, expressions):
        nonlocal left, top
        targets = [{"refId": chr(65 + i), "expr": expression, "legendFormat": legend}
                   for i, (expression, legend) in enumerate(expressions)]
        panels.append(panel(len(panels) + 1, {"h": 8, "w": 6, "x": left, "y": top}, title, unit, targets))
        left = (left + 6) % 24
        top += 8 if left == 0 else 0

    def row(title):
        nonlocal left, top
        top += 8 if left else 0
        left = 0
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}})
        top += 1

    for title, unit, *expressions in PANELS:
        if unit is None:
            row(title)
            continue
        filled = [(fill(expression, names), legend) for expression, legend in expressions[0]]
        used.update(re.findall(r"[a-z]\w*_\w+", " ".join(expression for expression, _ in filled)))
        put(title, unit, filled)
    row("Everything else")
    for name, kind, _, text in rows:
        if name in used or name + "_bucket" in used:
            continue
        expression = {"counter": f"rate({name}[1m])", "gauge": name}.get(
            kind, f"histogram_quantile(0.99, sum by (le) (rate({name}_bucket[1m])))")
        put(text.rstrip("."), "s" if "seconds" in name else "short", [(expression, "{{process}} {{shard}}")])
    return json.dumps({
        "title": "millrace", "uid": "millrace", "schemaVersion": 38, "version": 1, "editable": True, "tags": ["millrace"],
        "time": {"from": "now-1h", "to": "now"}, "refresh": "10s", "timezone": "", "annotations": {"list": []}, "links": [],
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source",
                                 "current": {}, "hide": 0, "includeAll": False, "multi": False, "options": [], "refresh": 1}]},
        "panels": panels}, indent=1) + "\n"
