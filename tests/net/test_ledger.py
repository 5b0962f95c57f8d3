# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is kept of what happened: a record of each failover, over restarts, and with a full disk."""
import json
import signal

import pytest

from cluster import PYTHON
from topology import VIP4, run, stop, wait_for


@pytest.fixture
def state(cluster):
    """A directory of the ledger's own."""
    path = cluster.directory / "state"
    path.mkdir()
    yield path
    cluster.stop_shuntd()
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


@pytest.fixture
def config(cluster, state):
    """Probes ten times slower than the default: a busy machine is not what is tested here."""
    return lambda hold="100ms": cluster.config(interval="1ms", hold=hold).replace("state: none", f"state: {state}")


def lines(state):
    return [json.loads(line) for line in (state / "events.jsonl").read_text().splitlines()]


def summary(cluster, *since):
    s = cluster.shunt("event", "summary", *since)
    return {b["name"]: b for b in s["backends"]}, s["pools"][0], s["failovers"]


def fall(cluster, name):
    """Its event "down", after it was unplugged."""
    fault_ns = cluster.plug.unplug(name)
    return wait_for(lambda: cluster.events(fault_ns, object="backend", name=name, what="down"), "the verdict")[0]


def test_a_power_off_and_return_leave_one_complete_record(cluster, shuntd, config, state):
    shuntd(config(hold="1s"))
    cluster.ask(VIP4, 40)
    load = cluster.start_load(400)
    wait_for(lambda: cluster.shunt("backend", "show", "gpu2")[0]["live"] > 3, "flows to tell of the fall")
    down = fall(cluster, "gpu2")
    wait_for(lambda: cluster.shunt("event", "show", "what", "failover"), "the record")
    cluster.plug.plug("gpu2")
    up = wait_for(lambda: cluster.events(down["at_ns"], object="backend", name="gpu2", what="up"), "gpu2 back up")[0]
    cluster.load_end(load)
    event, = cluster.shunt("event", "show", "what", "failover")
    f = event["evidence"]
    assert (event["name"], event["why"], event["at_ns"]) == ("gpu2", "silent", down["at_ns"])
    assert (f["pool"], f["down"], f["detector"]) == ("gpus", down["number"], "kernel")
    # fault <= flip <= learnt, first packet at the heir, clients told, table; and all of it before it was back
    assert f["fault_us"] == down["evidence"]["unanswered_us"] >= 3000
    outage_us = up["evidence"]["outage_us"]
    assert up["evidence"]["hold_ms"] * 1000 <= outage_us <= (up["at_ns"] - down["at_ns"]) // 1000
    assert 0 <= f["learnt_us"] <= f["told_us"] < outage_us
    assert 0 <= f["first_heir_us"] < outage_us and f["learnt_us"] <= f["table_us"] < outage_us
    assert f["flows_told"] > 3 and f["flows_reset"] <= f["flows_told"]

    backends, pool, failovers = summary(cluster)
    assert [(x["backend"], x["number"], x["outage_us"]) for x in failovers] == [("gpu2", event["number"], outage_us)]
    assert backends["gpu2"]["failures"] == 1 and backends["gpu2"]["mttr_us"] >= outage_us
    assert 0 < backends["gpu2"]["availability_percent"] < 100
    assert (backends["gpu1"]["failures"], backends["gpu1"]["mttf_us"], backends["gpu1"]["availability_percent"]) == (0, None, 100)
    assert (pool["failures"], pool["availability_percent"]) == (0, 100)  # three others served
    assert cluster.shunt("backend", "show", "gpu2")[0]["availability"]["failures"] == 1
    assert "detection_seconds_count{verdict=\"silent\"} 1" in cluster.shunt_text("stats", "metrics")


def test_availability_of_a_pool_ends_with_its_last_backend(cluster, shuntd, config):
    shuntd(config())
    cluster.shunt_text("backend", "drain", "gpu1")
    for backend in ("gpu2", "gpu3"):
        fall(cluster, backend)
    shown, = cluster.shunt("pool", "show", "gpus")
    assert [shown[k] for k in ("backends", "up", "draining", "down")] == [4, 1, 1, 2]
    assert shown["heirs_changed"] > 0 and shown["rebuilt"] and shown["availability"]["failures"] == 0
    cluster.shunt_text("backend", "drain", "gpu4")  # nobody takes new flows, because somebody wants it so
    shown, = cluster.shunt("pool", "show", "gpus")
    assert shown["availability"]["failures"] == 0
    wait_for(lambda: cluster.shunt("pool", "show", "gpus")[0]["availability"]["drained_us"] > 0, "drained time")
    cluster.shunt_text("backend", "undrain", "gpu4")
    assert cluster.shunt("pool", "show", "gpus")[0]["availability"]["down_us"] == 0


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_events_and_availability_survive_a_restart(cluster, shuntd, config, state, end):
    process = shuntd(config())
    down = fall(cluster, "gpu2")
    cluster.plug.plug("gpu2")
    up = wait_for(lambda: cluster.events(down["at_ns"], object="backend", name="gpu2", what="up"), "gpu2 back up")[0]
    wait_for(lambda: up in lines(state), "the line")  # a kill -9 takes what is some milliseconds old
    process.send_signal(end)
    process.wait(30)
    before = lines(state)
    cluster.shuntd = None
    shuntd(config())
    after = cluster.shunt("event", "show")
    assert after[:len(before)] == before
    opened = after[len(before)]
    assert (opened["what"], opened["number"]) == ("ledger opened", before[-1]["number"] + 1)
    assert (opened["evidence"]["read"], opened["evidence"]["skipped"]) == (len(before), 0)
    assert opened["evidence"]["ran_until"] >= before[-1]["time"]
    backends, pool, _ = summary(cluster)
    assert (backends["gpu2"]["failures"], backends["gpu2"]["mttr_us"] > 0) == (1, True)
    assert backends["gpu2"]["unknown_us"] > 0 and pool["unknown_us"] > 0 and pool["down_us"] == 0
    assert summary(cluster, "since", "1ms")[0]["gpu2"]["failures"] == 0
    assert after == cluster.shunt("event", "show", "--since", "1h")[:len(after)]
    assert cluster.shunt("event", "show", "since", down["time"], "name", "gpu2", "what", "down") == [down]


def test_whoever_is_taken_over_is_known_to_serve_and_no_failover_is_lost(cluster, shuntd, config, state):
    try:
        pinned = config().replace("pin: none", f"pin: {cluster.pin}")
        shuntd(pinned)
        down = fall(cluster, "gpu2")
        cluster.stop_shuntd()  # no packet came yet
        told, = [line for line in lines(state) if line["what"] == "failover"]
        assert told["evidence"]["down"] == down["number"]
        cluster.start_shuntd(pinned)
        cluster.wait_states(gpu1="up", gpu3="up", gpu4="up")
        ups = wait_for(lambda: cluster.shunt("event", "show", "from", told["number"], "what", "up"), "who serves")
        assert {e["name"] for e in ups} >= {"gpu1", "gpu3", "gpu4"} and {e["why"] for e in ups} <= {"it served already"}
        backends, pool, _ = summary(cluster)
        assert (backends["gpu2"]["failures"], backends["gpu1"]["failures"], pool["down_us"]) == (1, 0, 0)
        assert pool["availability_percent"] == 100 and pool["unknown_us"] > 0
    finally:
        cluster.forget()


def test_whoever_drained_when_he_was_taken_over_is_drained_and_can_not_fail(cluster, shuntd, config, state):
    try:
        pinned = config().replace("pin: none", f"pin: {cluster.pin}")
        shuntd(pinned)
        cluster.shunt_text("backend", "drain", "gpu1")
        cluster.stop_shuntd()
        cluster.start_shuntd(pinned)
        wait_for(lambda: cluster.events(name="gpu1", why="it drained already"), "who drains")
        cluster.plug.unplug("gpu1")
        cluster.wait_states(gpu1="down")
        before = summary(cluster)[0]["gpu1"]["drained_us"]
        wait_for(lambda: summary(cluster)[0]["gpu1"]["drained_us"] > before, "drained time")
        gpu1 = summary(cluster)[0]["gpu1"]
        assert (gpu1["down_us"], gpu1["failures"]) == (0, 0)
    finally:
        cluster.forget()


@pytest.fixture
def replaced(cluster, shuntd, config, state):
    """A function that makes another host gpu3 while the one before has connections yet, and returns the configuration."""
    clients = []

    def begin():
        was, becomes = (b.ipv4 for b in cluster.backends[2:])
        text = config().replace(f"      - {{name: gpu4, address: '{becomes}'}}\n", "")
        shuntd(text, "gpu1", "gpu2", "gpu3")
        script = f"import socket, time; c = [socket.create_connection(('{VIP4}', 80)) for _ in range(32)]; time.sleep(600)"
        clients.append(cluster.client.start("holder", PYTHON, "-c", script))
        wait_for(lambda: cluster.shunt("backend", "show", "gpu3")[0]["live"], "connections of gpu3")
        text = text.replace(was, becomes)
        cluster.write("shunt.yaml", text)
        cluster.shunt("config", "reload")
        return text
    yield begin
    for process in clients:
        stop(process)


def test_what_becomes_of_one_whose_name_is_anothers_is_nothing_to_that(cluster, shuntd, replaced):
    text = replaced()
    wait_for(lambda: [b["state"] for b in cluster.shunt("backend", "show", "gpu3")] == ["draining", "up"], "the new one up")
    assert [b["name"] for b in cluster.shunt("event", "summary")["backends"]] == ["gpu1", "gpu2", "gpu3"]
    fault_ns = cluster.plug.unplug("gpu3")
    for what in ("down", "gone"):
        event = wait_for(lambda: cluster.events(fault_ns, object="backend", name="gpu3", what=what), what)[0]
        assert event["evidence"]["replaced"] is True
    before = summary(cluster)[0]["gpu3"]
    wait_for(lambda: summary(cluster)[0]["gpu3"]["up_us"] > before["up_us"] + 1_500_000, "time up, and a look at who is unknown")
    after, _, failovers = summary(cluster)
    assert (after["gpu3"]["failures"], after["gpu3"]["down_us"], after["gpu3"]["unknown_us"]) == (0, 0, before["unknown_us"])
    assert failovers == [] and cluster.events(fault_ns, name="gpu3", what="up") == []
    shuntd(text, "gpu1", "gpu2", "gpu3")  # from the file
    assert summary(cluster)[0]["gpu3"]["failures"] == 0


def test_one_with_the_name_of_another_that_never_comes_up_is_down(cluster, replaced):
    cluster.plug.unplug("gpu4")
    replaced()
    wait_for(lambda: cluster.events(object="backend", name="gpu3", what="not up"), "the event", 15)
    wait_for(lambda: summary(cluster)[0]["gpu3"]["down_us"], "time down")


def test_a_full_disk_harms_nothing_else_and_is_made_up_for(cluster, shuntd, config, state):
    run("mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "none", state)
    try:
        shuntd(config())
        for _ in range(12):  # drains are events
            cluster.shunt_text("backend", "drain", "gpu1")
            cluster.shunt_text("backend", "undrain", "gpu1")
        said, = cluster.shunt("event", "show", "what", "ledger not written")
        assert said["why"] == "No space left on device"
        assert [line["number"] for line in lines(state)] == list(range(1, len(lines(state)) + 1))  # and no half one
        down = fall(cluster, "gpu2")
        cluster.plug.plug("gpu2")
        cluster.wait_states()
        run("mount", "-o", "remount,size=1m", state)
        again = wait_for(lambda: cluster.shunt("event", "show", "what", "ledger written again"), "room")[0]
        assert again["evidence"]["lost"] == 0
        before = again["number"] - 1
        assert lines(state)[:before] == cluster.shunt("event", "show")[:before]
        assert len(cluster.shunt("event", "show", "what", "ledger not written")) == 1
        cluster.stop_shuntd()
    finally:
        run("umount", "-l", state)
