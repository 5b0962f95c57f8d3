# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The alerts fire when they should and only then, and the dashboard asks what Prometheus understands. That both name metrics
that there are is tested beside a real scrape (tests/net/test_http.py)."""
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALERTS, ALERTS_TEST = ROOT / "tools/prometheus/alerts.yaml", ROOT / "tools/prometheus/alerts_test.yaml"


def promtool(*argv):
    done = subprocess.run(["promtool", *map(str, argv)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing_and_silent():
    promtool("check", "rules", "--lint-fatal", ALERTS)
    promtool("test", "rules", ALERTS_TEST)
    names = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    tests = ALERTS_TEST.read_text()
    assert set(re.findall(r"alertname: (\w+)\n +exp_alerts:", tests)) == names
    assert set(re.findall(r"- {alertname: (\w+), eval_time: 30m}", tests)) == names


def test_the_dashboard_asks_what_prometheus_understands(tmp_path):
    panels = json.loads((ROOT / "tools/grafana/shunt.json").read_text())["panels"]
    rules = tmp_path / "rules.yaml"
    exprs = [re.sub(r"\$__\w+", "1m", t["expr"]).replace("$instance", ".*").replace("$pool", ".*") for p in panels for t in p["targets"]]
    assert len(exprs) >= len(panels) and not [e for e in exprs if "$" in e]
    rules.write_text(json.dumps({"groups": [{"name": "g", "rules": [{"record": f"r:{i}", "expr": e} for i, e in enumerate(exprs)]}]}))
    promtool("check", "rules", rules)


def test_the_dashboards_panels_do_not_overlap():
    taken = {}
    for p in json.loads((ROOT / "tools/grafana/shunt.json").read_text())["panels"]:
        at = p["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert taken.setdefault((x, y), p["title"]) == p["title"] and x < 24
