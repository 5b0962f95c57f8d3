# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What shuntd shows over HTTP: metrics that Prometheus takes, the objects as JSON, and no more."""
import json
import re
import subprocess

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as classic

from topology import VIP4, run, wait_for

PORT = 9784
BASE = f"http://127.0.0.1:{PORT}"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
# As Prometheus 2.42 asks (scrape/scrape.go).
ACCEPT = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


@pytest.fixture
def config(cluster):
    def make(**options):
        return cluster.config(**{"interval": "1ms", "hold": "100ms", "multiplier": 10, **options}) + "http: {}\n"
    return make


@pytest.fixture
def started(cluster, shuntd, config):
    shuntd(config())
    return cluster


class Reply:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}

    @property
    def json(self):
        return json.loads(self.body)


def get(cluster, path, *options):
    """One request from the balancer itself."""
    done = subprocess.run(cluster.balancer.enter("curl", "-siS", "-m", "10", *options, BASE + path), capture_output=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return Reply(done.stdout.decode())


def scrape(cluster):
    """{metric: family} and {(name, labels): value}, as OpenMetrics."""
    reply = get(cluster, "/metrics", "-H", f"Accept: {ACCEPT}")
    assert reply.headers["content-type"] == OPEN
    families = {f.name: f for f in openmetrics.text_string_to_metric_families(reply.body)}
    return families, {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families.values() for s in f.samples}


def test_metrics_are_clean_to_promtool_and_the_same_in_both_formats(started):
    started.ask(VIP4, 8)
    text = get(started, "/metrics")
    assert text.headers["content-type"] == TEXT
    checked = subprocess.run(["promtool", "check", "metrics"], input=text.body, capture_output=True, text=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    old = {s.name for f in classic.text_string_to_metric_families(text.body) for s in f.samples}
    _, samples = scrape(started)
    assert old == {name for name, _ in samples}
    assert text.body.count("# EOF") == 0


def test_metrics_are_what_show_tells(started):
    started.ask(VIP4, 8)
    _, samples = scrape(started)
    by_name = {}
    for (name, labels), value in samples.items():
        by_name.setdefault(name, {})[dict(labels).get("backend") or dict(labels).get("vip")] = value
    for b in started.shunt("backend", "show"):
        assert by_name["shunt_backend_new_flows_total"][b["name"]] == b["new_flows"]
        assert by_name["shunt_backend_weight"][b["name"]] == b["weight"]
        assert samples["shunt_backend_state", (("backend", b["name"]), ("pool", "gpus"), ("state", "up"))] == 1
    for s in started.shunt("slot", "show"):
        assert by_name["shunt_backend_slots"][s["backend"]] == s["owner"]
    assert sum(by_name["shunt_vip_new_flows_total"].values()) == 8
    assert samples["shunt_journal_opened_total", ()] == 8
    assert started.shunt_text("stats", "metrics").endswith("# EOF\n")
