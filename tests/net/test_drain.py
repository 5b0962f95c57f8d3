# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who drains, through whatever becomes of it meanwhile. How its flows fare: test_flows.py; the agent's side: test_agent_drain.py."""
import json
import subprocess
import time

import pytest

from cluster import PYTHON
from topology import VIP4, wait_for

DETECTORS = ["kernel", "controller"]
# Clients that ask for a stream and then say that they have no more to say. Prints how each of them ended.
HALF_CLOSED = """
import json, socket, sys
address, n, tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
body = json.dumps({"stream": True, "max_tokens": tokens})
request = f"POST /v1/chat/completions HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}"
clients = []
for _ in range(n):
    s = socket.create_connection((address, 80), 10)
    s.sendall(request.encode())
    s.shutdown(socket.SHUT_WR)
    clients.append((s, s.recv(4096)))
print("open", flush=True)
for s, text in clients:
    s.settimeout(30)
    try:
        while piece := s.recv(65536):
            text += piece
        end = "" if b"[DONE]" in text else "EOF"
    except OSError as e:
        end = type(e).__name__
    print(json.dumps({"backend": text.partition(b'system_fingerprint": "')[2][:4].decode(), "end": end}), flush=True)
"""


@pytest.fixture(params=DETECTORS)
def running(cluster, shuntd, request):
    shuntd(cluster.config(interval="1ms", hold="100ms", detector=request.param))
    return cluster


def served_by(cluster, n=32):
    return {a["backend"] for a in cluster.ask(VIP4, n)}


def state(cluster, name):
    b = cluster.shunt("backend", "show", name)[0]
    return b["state"], b["verdict"]


def agent(cluster, name, word):
    host = next(b for b in cluster.backends if b.name == name)
    return host.run(cluster.build / "shunt-agent", "-s", cluster.agent_socket(host), word)


def test_a_draining_backend_gets_no_new_flow_from_the_moment_drain_returns(running):
    running.shunt("backend", "drain", "gpu2")
    assert served_by(running) == {"gpu1", "gpu3", "gpu4"}
    assert {a["backend"] for a in running.ask_udp(VIP4, 16)} <= {"gpu1", "gpu3", "gpu4"}
    assert state(running, "gpu2") == ("draining", "drained")
    running.shunt("backend", "undrain", "gpu2")
    assert state(running, "gpu2") == ("up", "answering")
    assert served_by(running) == {"gpu1", "gpu2", "gpu3", "gpu4"}


def test_a_backend_that_dies_while_it_drains_comes_back_draining(running):
    running.shunt("backend", "drain", "gpu2")
    fault_ns = running.plug.unplug("gpu2")
    event = wait_for(lambda: running.events(fault_ns, object="backend", name="gpu2", what="down"), "the verdict")[0]
    assert event["why"] == "silent"
    plugged_ns = running.plug.plug("gpu2")
    running.wait_states(gpu2="draining")
    assert running.events(plugged_ns, object="backend", name="gpu2", what="up") == []
    assert "gpu2" not in served_by(running)
    running.shunt("backend", "undrain", "gpu2")
    assert state(running, "gpu2") == ("up", "answering")


def test_a_backend_that_is_drained_while_it_is_down_comes_back_draining(running):
    running.plug.unplug("gpu2")
    running.wait_states(gpu2="down")
    running.shunt("backend", "drain", "gpu2")
    assert state(running, "gpu2")[0] == "down"
    running.plug.plug("gpu2")
    running.wait_states(gpu2="draining")
    assert "gpu2" not in served_by(running)


def test_a_backend_undrained_while_it_is_down_is_admitted_as_others_are(running):
    running.shunt("backend", "drain", "gpu2")
    fault_ns = running.plug.unplug("gpu2")
    running.wait_states(gpu2="down")
    running.shunt("backend", "undrain", "gpu2")
    assert state(running, "gpu2")[0] == "down"
    running.plug.plug("gpu2")
    down, up = (wait_for(lambda: running.events(fault_ns, object="backend", name="gpu2", what=what), what)[0]
                for what in ("down", "up"))
    assert up["at_ns"] - down["at_ns"] >= 100_000_000  # hold


def test_an_agent_asks_for_a_drain_and_ends_it(running):
    begun_ns = time.monotonic_ns()
    agent(running, "gpu3", "drain")
    running.wait_states(gpu3="draining")
    assert state(running, "gpu3") == ("draining", "asked")
    assert "gpu3" not in served_by(running)
    with pytest.raises(RuntimeError):  # where it was asked for, there it ends
        running.shunt("backend", "undrain", "gpu3")
    agent(running, "gpu3", "undrain")
    running.wait_states(gpu3="up")
    assert "gpu3" in served_by(running)
    assert running.events(begun_ns, object="backend", what="down") == []


def test_an_operators_drain_outlasts_the_agents(running):
    running.shunt("backend", "drain", "gpu3")
    agent(running, "gpu3", "drain")
    wait_for(lambda: running.shunt("probe", "show", "gpu3")[0]["engine"] == "draining", "the agent's word")
    agent(running, "gpu3", "undrain")
    wait_for(lambda: running.shunt("probe", "show", "gpu3")[0]["engine"] != "draining", "the agent's word")
    assert state(running, "gpu3") == ("draining", "drained")


def test_a_drain_outlasts_a_reload(running):
    running.shunt("backend", "drain", "gpu2")
    begun_ns = time.monotonic_ns()
    text = (running.directory / "shunt.yaml").read_text().replace("{name: gpu1,", "{name: gpu1, weight: 200,")
    running.write("shunt.yaml", text)
    running.shunt("config", "reload")
    wait_for(lambda: running.events(begun_ns, object="shuntd", what="reloaded"), "the end of the reload")
    assert state(running, "gpu2") == ("draining", "drained")
    assert "gpu2" not in served_by(running)


class HalfClosed:
    """Streams whose clients have sent a FIN and read on."""

    def __init__(self, cluster, n, tokens):
        self.process = cluster.client.start("half-closed", PYTHON, "-c", HALF_CLOSED, VIP4, n, tokens, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"open\n"

    def ends(self):
        """(backend, how it ended: "" is with the last token) of each."""
        out, _ = self.process.communicate(timeout=60)
        return [tuple(json.loads(line).values()) for line in out.splitlines()]


@pytest.fixture
def patient(cluster, shuntd):
    """Ejects nobody whom this machine holds up for a while."""
    shuntd(cluster.config(interval="2ms", multiplier=30, hold="100ms") + "flows: {closed: 1s}\n")
    return cluster


def test_a_drain_waits_for_streams_whose_clients_have_sent_a_fin(cluster, shuntd):
    shuntd(cluster.config(interval="2ms", multiplier=30, hold="100ms"))
    streams = HalfClosed(cluster, 24, 250)
    wait_for(lambda: cluster.shunt("backend", "show", "gpu2")[0]["live"] == 0, "no open flow")
    time.sleep(4)  # nothing of them is looked up
    cluster.shunt("backend", "drain", "gpu2", "wait")
    cluster.plug.unplug("gpu2")
    ends = streams.ends()
    assert "gpu2" in [backend for backend, _ in ends]
    assert [e for e in ends if e[1]] == []


def test_streams_whose_clients_have_sent_a_fin_are_cut_at_the_deadline(patient):
    streams = HalfClosed(patient, 24, 300)
    done = patient.balancer.try_run(*patient.shunt_argv("backend", "drain", "gpu2", "wait", "deadline", "1s"))
    assert done.returncode == 1 and "cut at the deadline" in done.stderr
    for backend, end in streams.ends():
        assert end == ("ConnectionResetError" if backend == "gpu2" else "")


@pytest.mark.parametrize("what", ["moves", "dies"])
def test_streams_whose_clients_sent_a_fin_long_ago_stay_recorded(patient, what):
    listened = lambda: patient.shunt("flow", "show", "state", "closing", "detours")["flows"]
    streams = HalfClosed(patient, 24, 400)
    for _ in range(2):  # more than once each is listened to, and found alive
        wait_for(listened, "shuntd to listen")
        wait_for(lambda: not listened(), "the end of it")
    if what == "moves":
        for name, weight in (("gpu1", 300), ("gpu2", 10)):
            patient.shunt("backend", "set", name, "weight", weight)
        assert [e for e in streams.ends() if e[1]] == []
    else:
        patient.plug.unplug("gpu2")
        ends = streams.ends()
        assert {end for backend, end in ends if backend == "gpu2"} == {"ConnectionResetError"}
        assert {end for backend, end in ends if backend != "gpu2"} == {""}
