# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What shuntd shows over HTTP: metrics that Prometheus takes, the objects as JSON, and no more."""
import json
import re
import subprocess
import time

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client import parser as classic

from browser import Browser
from cluster import LIB, PYTHON, ROOT
from conftest import BUILD
from topology import VIP4, wait_for

PORT = 9784
BASE = f"http://127.0.0.1:{PORT}"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
# As Prometheus 2.42 asks (scrape/scrape.go).
ACCEPT = ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
          "text/plain;version=0.0.4;q=0.5,*/*;q=0.1")


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
    argv = cluster.balancer.enter("curl", "-siS", "-m", "10", *options, BASE + path)
    done = subprocess.run(argv, capture_output=True, timeout=20)
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
    assert samples["shunt_build_info", (("version", started.shunt("daemon", "show")["version"]),)] == 1
    assert samples["shunt_interface_attached", (("interface", "eth0"),)] == 1
    assert started.shunt_text("stats", "metrics").endswith("# EOF\n")


def test_histograms_add_up(started):
    families, _ = scrape(started)
    histograms = [f for f in families.values() if f.type == "histogram"]
    assert {"shunt_probe_round_trip_seconds", "shunt_detection_seconds", "shunt_steering_seconds"} == {f.name for f in histograms}
    for family in histograms:
        series = {}
        for s in family.samples:
            labels = {k: v for k, v in s.labels.items() if k != "le"}
            series.setdefault(tuple(labels.items()), []).append((s.name.removeprefix(family.name), s.labels.get("le"), s.value))
        for labels, samples in series.items():
            buckets = [(float(le), n) for suffix, le, n in samples if suffix == "_bucket"]
            assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets), labels
            assert buckets[-1] == (float("inf"), dict((s, n) for s, _, n in samples)["_count"]), labels
    assert all(s.value > 0 for s in families["shunt_probe_round_trip_seconds"].samples if s.name.endswith("_count"))


def falls(before, after):
    return [key for key in before if key[0].endswith(("_total", "_count", "_bucket")) and after.get(key, 0) < before[key]]


def test_counters_never_fall_not_by_a_reload_either(started, config):
    started.ask(VIP4, 8)
    _, samples = scrape(started)
    for weights in ("weight: 7", "weight: 9"):
        started.write("shunt.yaml", config().replace("address: '10.0.0.11'", f"address: '10.0.0.11', {weights}"))
        started.shunt("config", "reload")
        started.ask(VIP4, 8)
        wait_for(lambda: scrape(started)[1] != samples, "other metrics")
        _, after = scrape(started)
        assert falls(samples, after) == []
        samples = after
    assert samples["shunt_backend_weight", (("backend", "gpu1"), ("pool", "gpus"))] == 9


def test_a_power_off_shows(started):
    started.plug.unplug("gpu2")
    failures = "shunt_backend_failures_total", (("backend", "gpu2"), ("pool", "gpus"))
    wait_for(lambda: scrape(started)[1][failures] == 1, "its failure")  # counted by shuntd, after the kernel's flip
    _, samples = scrape(started)
    assert samples["shunt_backend_state", (("backend", "gpu2"), ("pool", "gpus"), ("state", "down"))] == 1
    assert samples["shunt_backend_verdict", (("backend", "gpu2"), ("pool", "gpus"), ("verdict", "silent"))] == 1
    assert samples["shunt_pool_backends_up", (("pool", "gpus"),)] == 3
    wait_for(lambda: scrape(started)[1]["shunt_detection_seconds_count", (("verdict", "silent"),)] == 1, "its detection")


def test_questions_with_arguments_are_bounded(started):
    """Their answers aren't kept, so what they take of the main loop is."""
    script = f"""
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", 9784)
for i in range(100000):
    c.request("GET", "/api/v1/events?from=1")
    r = c.getresponse()
    r.read()
    if r.status != 200:
        break
print(i, r.status, r.headers["Retry-After"])
"""
    n, status, after = started.balancer.run("/usr/bin/python3", "-c", script).split()
    assert int(n) > 10 and (status, after) == ("503", "1")
    assert get(started, "/api/v1/events").status == 200 == get(started, "/metrics").status
    wait_for(lambda: get(started, "/api/v1/events?from=1").status == 200, "another answer")


@pytest.mark.parametrize("file", ["grafana/shunt.json", "prometheus/alerts.yaml"])
def test_what_the_dashboard_and_the_alerts_ask_for_is_there(started, file):
    named = set(re.findall(r"\bshunt_[a-z0-9_]+", (ROOT / "tools" / file).read_text()))
    named -= {n for n in named if n.startswith("shunt_peer_")}  # those of a pair: test_peer.py
    assert len(named) > 8 and named - {name for name, _ in scrape(started)[1]} == set()


PATHS = {"vips": ["vip", "show"], "backends": ["backend", "show"], "slots": ["slot", "show"], "events": ["event", "show"],
         "probes?name=gpu1": ["probe", "show", "gpu1"], "backends?name=gpu2": ["backend", "show", "gpu2"],
         "events?from=3": ["event", "show", "from", "3"], "stats": ["stats", "show"], "pools": ["pool", "show"], "daemon": ["daemon", "show"]}
FLEETING = {"now_ns", "uptime_s", "probe", "reasons", "rounds_asked", "answers", "last_answer_us", "rtt_us", "agent_age_us", "window_us",
            "window_asked", "window_answers", "rtt_p50_us", "rtt_p99_us", "hold_left_us", "availability", "open", "closing", "closed", "detours",
            "used"}


def lasting(value):
    if isinstance(value, list):
        return [lasting(v) for v in value]
    return {k: lasting(v) for k, v in value.items() if k not in FLEETING} if isinstance(value, dict) else value


@pytest.mark.parametrize("path", PATHS)
def test_the_api_says_what_the_command_says(started, path):
    def same():
        reply = get(started, f"/api/v1/{path}")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
        return lasting(reply.json) == lasting(started.shunt(*PATHS[path]))
    wait_for(same, "the same")


def test_flows_are_counted_by_the_api_a_page_at_a_time(started):
    started.ask(VIP4, 8)
    reply = get(started, "/api/v1/flows/count?vip=chat4")
    counts = started.shunt("flow", "count", "vip", "chat4")["counts"]
    assert {c["backend"] for c in reply.json["counts"]} == {c["backend"] for c in counts} and reply.json["next"] is None


def test_what_is_not_there_is_an_error_as_json(started):
    for path, status, word in (("/api/v1/cows", 404, "shuntd(8)"), ("/metrics/", 404, "shuntd(8)"),
                               ("/api/v1/backends?name=cow", 404, "cow"), ("/api/v1/backends?colour=red", 400, "colour"),
                               ("/api/v1/events?from=x", 400, "from"),
                               ("/api/v1/backends?name=%ff", 404, "no backend")):
        reply = get(started, path)
        assert (reply.status, reply.headers["content-type"]) == (status, "application/json"), path
        assert word in str(reply.json), path


def test_it_can_only_be_read(started):
    head = get(started, "/metrics", "-I")
    assert (head.status, head.body) == (200, "") and int(head.headers["content-length"]) > 1000
    for options in (["-d", "x=1"], ["-X", "DELETE"], ["-X", "PUT", "-d", "x"], ["-X", "OPTIONS"], ["-X", "COW"]):
        reply = get(started, "/api/v1/backends", *options)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD"), options
        assert "read" in reply.json["error"]


def test_browsers_are_told_what_the_page_may(started):
    page = get(started, "/")
    policy = page.headers["content-security-policy"]
    assert page.status == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for path in ("/", "/metrics", "/healthz", "/api/v1/vips", "/none"):
        assert get(started, path).headers["x-content-type-options"] == "nosniff"


def test_health_says_why_the_balancer_is_ill(cluster, shuntd, config):
    names = [b.name for b in cluster.backends]
    cluster.plug.unplug(*names)
    cluster.start_shuntd(config())
    wait_for(lambda: cluster.shunt("stats", "show")["ill_because"] == get(cluster, "/healthz").body.strip(), "the same reason")
    assert get(cluster, "/healthz").status == 503
    cluster.plug.plug(*names)
    wait_for(lambda: get(cluster, "/healthz").status == 200, "the balancer being well")
    assert get(cluster, "/healthz").body == "well\n"


def test_nobody_listens_unless_told_to(cluster, shuntd):
    shuntd(cluster.config(interval="1ms", hold="100ms", multiplier=10))
    done = cluster.balancer.try_run("curl", "-sS", BASE)
    assert done.returncode == 7, done  # could not connect


def test_a_port_that_is_taken_is_one_sentence_at_the_start(cluster, config):
    code = f"import socket; s = socket.create_server(('127.0.0.1', {PORT})); print('ready', flush=True); s.accept()"
    taker = cluster.balancer.start("taker", PYTHON, "-c", code)
    try:
        wait_for(lambda: "ready" in cluster.log("taker"), "the other one")
        done = cluster.balancer.try_run(cluster.build / "shuntd", "-f", cluster.write("taken.yaml", config()))
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "shuntd: http on 127.0.0.1 port 9784: something listens there already: give http another port"
        assert "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0")
    finally:
        taker.terminate()
        taker.wait()


# ---- the page ----

@pytest.fixture
def browser(started):
    browser = Browser(started.balancer)
    yield browser
    browser.close()


def opened(browser, *size):
    browser.size(*size)
    browser.open(BASE + "/")
    wait_for(lambda: "gpu4" in text(browser), "the page")
    return browser


def text(browser, selector="main"):
    return browser.value(f"document.querySelector({selector!r}).innerText")


def row(browser, backend):
    """The cells of a backend's row, as a reader of the screen meets them: by their roles."""
    return browser.value(f"""(() => {{
        const rows = [...document.querySelectorAll('#pools [role=row]')];
        const mine = rows.find(r => r.querySelector('[role=rowheader]')?.innerText.startsWith({backend!r}));
        return mine ? [...mine.querySelectorAll('[role=rowheader], [role=cell]')].map(c => c.innerText) : null;
    }})()""")


def fits(browser):
    return browser.value("document.documentElement.scrollWidth") <= browser.width  # innerWidth would grow with it


def test_the_page_shows_who_fell_and_why_on_a_phone_and_on_a_desk(started, browser):
    opened(browser, 360, 780)
    assert fits(browser) and "4 of 4 up" in text(browser)
    load = started.start_load(50)
    wait_for(lambda: started.shunt("backend", "show", "gpu3")[0]["live"], "streams on gpu3")
    started.plug.unplug("gpu3")
    wait_for(lambda: "down" in row(browser, "gpu3")[1], "gpu3 down on the page")
    assert "silent for" in row(browser, "gpu3")[2] and "bore witness" in row(browser, "gpu3")[2]
    wait_for(lambda: "still away" in text(browser, "#falls"), "its failover")
    assert "gpu3" in text(browser, "#falls") and "told within" in text(browser, "#falls") and fits(browser)
    started.plug.plug("gpu3")
    wait_for(lambda: "away for" in text(browser, "#falls"), "its return")
    started.shunt_text("backend", "drain", "gpu2")
    wait_for(lambda: "draining" in row(browser, "gpu2")[1], "gpu2 draining on the page")
    for name, *size in (("phone-dark", 360, 780, True), ("phone", 360, 780), ("dark", 1100, 780, True), ("status", 1100, 780)):
        browser.size(*size)
        assert fits(browser), name
        browser.screenshot(BUILD / f"check/{name}.png")
    assert browser.complaints == []
    started.load_end(load)


def strip(browser, backend):
    """The segments of a backend's strip, oldest first: of which kind, and where each ends, percent."""
    return browser.value(f"""(() => {{
        const mine = [...document.querySelectorAll('.lanes > b')].find(b => b.innerText === {backend!r});
        return mine ? [...mine.nextElementSibling.children].map(i => [i.className, parseFloat(i.style.left) + parseFloat(i.style.width)]) : null;
    }})()""")


def test_the_page_sees_who_comes_back_to_drain_is_undrained_and_goes(started, browser, config):
    opened(browser, 1100, 780)
    started.plug.unplug("gpu3")
    wait_for(lambda: "still away" in text(browser, "#falls"), "its failover")
    started.shunt_text("backend", "drain", "gpu3")
    started.plug.plug("gpu3")
    started.wait_states(gpu3="draining")
    wait_for(lambda: "away for" in text(browser, "#falls"), "its return")
    assert strip(browser, "gpu3")[-1][0] == "warn"
    started.shunt_text("backend", "undrain", "gpu3")
    wait_for(lambda: strip(browser, "gpu3")[-1][0] == "good", "the end of its drain on the strip")
    assert text(browser, "#falls").count("away for") == 1
    started.plug.unplug("gpu3")
    wait_for(lambda: "still away" in text(browser, "#falls"), "its next failover")
    gpu3 = f"      - {{name: gpu3, address: '{started.backends[2].ipv4}'}}\n"
    started.write("shunt.yaml", config().replace(gpu3, ""))
    started.shunt("config", "reload")
    wait_for(lambda: "removed since" in text(browser, "#falls"), "its end")
    wait_for(lambda: strip(browser, "gpu3")[-1][1] < 99, "the end of its strip")
    assert text(browser, "#falls").count("away for") == 1
    assert browser.complaints == []


def test_the_page_says_when_shuntd_does_not_answer_and_goes_on_when_it_does(started, browser, config):
    opened(browser, 800, 600)
    assert text(browser, "#alerts") == ""
    started.stop_shuntd()
    wait_for(lambda: "shuntd does not answer" in text(browser, "#alerts"), "the alert")
    assert "gpu4" in text(browser)
    started.start_shuntd(config())
    wait_for(lambda: text(browser, "#alerts") == "" and "4 of 4 up" in text(browser), "the page as before")


def test_the_page_takes_no_name_for_html(started, browser):
    opened(browser, 800, 600)
    browser.value("""{
        const real = fetch;
        window.fetch = async (...of) => new Response((await (await real(...of)).text()).replaceAll('gpu1', '<b class=evil>gpu1</b>'));
    }""")
    wait_for(lambda: "<b class=evil>gpu1</b>" in text(browser), "the name as it is")
    assert browser.value("document.querySelector('.evil')") is None
    assert browser.complaints == []


# ---- hostile clients ----

class Pests:
    def __init__(self, cluster, source, kind, n):
        self.process = cluster.balancer.start(f"pest-{kind}", PYTHON, LIB / "pest.py", source, PORT, kind, n,
                                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture
def sanitized(cluster, shuntd, config):
    """The controller with the sanitizers."""
    build, cluster.build = cluster.build, BUILD / "san"
    try:
        shuntd(config())
        yield cluster
        cluster.stop_shuntd()
        assert "ERROR" not in cluster.log("shuntd")
    finally:
        cluster.build = build


@pytest.mark.parametrize("kind", ["half", "slow", "garbage", "huge", "deaf"])
def test_hostile_clients_keep_nobody_else_out(sanitized, kind):
    with Pests(sanitized, "127.0.0.2", kind, 100):
        for path in ("/metrics", "/api/v1/backends", "/healthz"):
            assert get(sanitized, path).status == 200
        fault_ns = sanitized.plug.unplug("gpu3")
        sanitized.wait_states(gpu3="down")
        assert [e["name"] for e in sanitized.events(fault_ns, what="down")] == ["gpu3"]


DRIP = """
import select, socket
s = socket.create_connection(("127.0.0.1", PORT))
s.send(b"GET / HTTP/1.1\\r\\nX: ")
while not select.select([s], [], [], 0.2)[0]:
    s.send(b"x")
print("cut off", s.recv(1))
"""


def test_who_sends_a_request_byte_by_byte_is_cut_off(started):
    started.balancer.start("drip", PYTHON, "-c", DRIP.replace("PORT", str(PORT)))
    wait_for(lambda: "cut off" in started.log("drip"), "the end of patience", 30)


def test_a_thousand_idle_connections_make_room_for_whoever_comes(sanitized):
    with Pests(sanitized, "127.0.0.2", "idle", 500), Pests(sanitized, "127.0.0.3", "idle", 500):
        started_ns = time.monotonic_ns()
        assert sanitized.shunt("vip", "show")
        assert get(sanitized, "/healthz").status == 200
        assert sanitized.events(started_ns, what="down") == []


@pytest.mark.parametrize("listen, ask", [("'::1'", "[::1]"), ("'::'", "[::1]"), ("'::'", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_it_listens_where_it_is_told_to(cluster, shuntd, config, listen, ask):
    cluster.start_shuntd(config().replace("http: {}", f"http: {{address: {listen}, port: 9999}}"))
    assert "shunt_uptime_seconds" in cluster.balancer.run("curl", "-sfg", f"http://{ask}:9999/metrics")
