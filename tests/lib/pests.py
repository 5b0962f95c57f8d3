# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What hostile clients of the control socket and of the HTTP listener cost: the share of rounds that go out late, before them and
during them, and how long another client waits for an answer. Played by tests/bench/ops.
"""
import subprocess
import time

from cluster import LIB, PYTHON
from topology import wait_for

PROBE = {"interval": "100us", "multiplier": 3}  # as shipped
HTTP_PORT = 9784
KINDS = {"idle": 1000, "half": 200, "slow": 100, "garbage": 200, "huge": 100, "deaf": 60}
WATCHED_S = 3
SCENES = {"pests_at_control": lambda c: ("unix", c.socket), "pests_at_http": lambda c: ("127.0.0.1", HTTP_PORT)}


def rounds(c):
    probe = c.shunt("stats", "show")["probe"]
    return probe["round"], probe["rounds_late"], probe["rounds_skipped"]


def watched(c):
    """Three seconds of its rounds, and the longest that one waited for an answer."""
    before, end, longest = rounds(c), time.monotonic() + WATCHED_S, 0
    while time.monotonic() < end:
        asked = time.monotonic()
        c.shunt("stats", "show")
        longest = max(longest, time.monotonic() - asked)
        time.sleep(0.05)
    n, late, skipped = (b - a for a, b in zip(before, rounds(c)))
    return {"rounds": n, "late_percent": round(100 * late / n, 2), "skipped_percent": round(100 * skipped / n, 2),
            "answer_ms_max": round(1000 * longest, 1)}


def play(c, name, n_streams, n=None):
    """Needs a Crowd whose servers run. n, n_streams: not used, a pest is a pest."""
    c.start_shuntd(c.flow_config(pin=c.pin, **PROBE) + f"http: {{port: {HTTP_PORT}}}\n")
    c.wait_states()
    begun_ns = time.monotonic_ns()
    seen = {"before": watched(c)}
    for kind, n_pests in KINDS.items():
        pest = c.balancer.start(f"pest-{kind}", PYTHON, LIB / "pest.py", *SCENES[name](c), kind, n_pests, stdin=subprocess.PIPE)
        wait_for(lambda: "ready" in c.log(f"pest-{kind}"), f"{n_pests} that are {kind}")
        seen[f"{n_pests} {kind}"] = watched(c)
        pest.stdin.close()
        pest.wait(10)
    seen["after"] = watched(c)
    seen["wrong_verdicts"] = [f"{e['name']} {e['why']}" for e in c.events(begun_ns, object="backend", what="down")]
    return seen
