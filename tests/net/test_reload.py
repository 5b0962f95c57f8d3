# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From one configuration to another while packets flow: what changes, what doesn't, and what is refused."""
import signal
import time

import pytest

from topology import VIP4, wait_for

PORTS = range(20000, 20032)
RATE = 100  # streams a second: some 50 at a time


@pytest.fixture
def config(cluster):
    """A configuration of some of the backends, in this order, each with what is said of it."""
    def make(*names, **said):
        backends = {b.name: b for b in cluster.backends}
        lines = "\n".join(f"      - {{name: {n}, address: {backends[n].ipv4}{said.get(n, '')}}}" for n in names)
        pools = f"  - name: gpus\n    forward: ipip\n    slots: {said.get('slots', 1021)}\n    backends:\n{lines}"
        return cluster.config(interval="1ms", multiplier=10, hold="100ms", pools=pools, **said.get("rest", {}))
    return make


@pytest.fixture
def started(cluster, shuntd, config):
    """The controller with three of the four backends."""
    shuntd(config("gpu1", "gpu2", "gpu3"), "gpu1", "gpu2", "gpu3")
    return time.monotonic_ns()


def load_on(cluster, *names):
    """Streams opened at a steady pace, when each of these backends has some."""
    load = cluster.start_load(RATE)
    wait_for(lambda: {b["name"] for b in cluster.shunt("backend", "show") if b["live"]} >= set(names), f"streams on {names}")
    return load


def unbroken(cluster, load):
    """The streams' backends, of which none broke."""
    records = cluster.load_end(load)
    assert [r for r in records if r["error"]] == []
    return {r["backend"] for r in records}


def reload(cluster, text, *words):
    """The sentences of what changed. Returns when the flows are led over."""
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", text)
    changes = cluster.shunt("config", "reload", *words)["changes"]
    wait_reloaded(cluster, begun_ns)
    return changes


def wait_reloaded(cluster, since_ns):
    return wait_for(lambda: cluster.events(since_ns, object="shuntd", what="reloaded"), "the end of the reload")[0]


def mapping(cluster, vip="chat4"):
    return {port: cluster.where(port, vip) for port in PORTS}


def ids(cluster):
    return {b["name"]: b["id"] for b in cluster.shunt("backend", "show")}


def downs(cluster, since_ns):
    return [e["text"] for e in cluster.events(since_ns, object="backend", what="down")]


def test_a_backend_that_is_added_serves_and_no_stream_breaks(cluster, started, config):
    before, were = mapping(cluster), ids(cluster)
    load = load_on(cluster, "gpu1", "gpu2", "gpu3")
    assert reload(cluster, config("gpu1", "gpu2", "gpu3", "gpu4")) == ["backend gpu4 added to pool gpus"]
    cluster.wait_states(gpu4="up")
    after = mapping(cluster)
    assert set(after.values()) == {"gpu1", "gpu2", "gpu3", "gpu4"}
    assert {after[p] for p in PORTS if after[p] != before[p]} == {"gpu4"}
    assert were.items() <= ids(cluster).items()
    wait_for(lambda: "gpu4" in {a["backend"] for a in cluster.ask(VIP4, 16)}, "gpu4 in service")
    unbroken(cluster, load)
    assert downs(cluster, started) == []


def test_a_backend_that_is_removed_drains_and_no_stream_breaks(cluster, started, config):
    load = load_on(cluster, "gpu2")
    begun_ns = time.monotonic_ns()
    assert reload(cluster, config("gpu1", "gpu3")) == ["backend gpu2 removed from pool gpus"]
    assert cluster.states()["gpu2"] == "draining"
    assert set(mapping(cluster).values()) == {"gpu1", "gpu3"}
    assert {a["backend"] for a in cluster.ask(VIP4, 16)} == {"gpu1", "gpu3"}
    wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu2", what="drained"), "gpu2 drained")
    unbroken(cluster, load)
    assert downs(cluster, started) == []


def test_a_backend_that_is_removed_is_forgotten_when_no_flow_names_it(cluster, started, config):
    was = ids(cluster)["gpu2"]
    reload(cluster, config("gpu1", "gpu3"))
    wait_for(lambda: cluster.events(started, object="backend", name="gpu2", what="forgotten"), "gpu2 forgotten")
    assert "gpu2" not in cluster.states()
    reload(cluster, config("gpu1", "gpu3", "gpu4"))
    assert ids(cluster)["gpu4"] == was
    cluster.wait_states(gpu4="up")
    assert {a["backend"] for a in cluster.ask(VIP4, 32)} == {"gpu1", "gpu3", "gpu4"}
    assert downs(cluster, started) == []


def test_a_removal_by_force_cuts_its_streams(cluster, started, config):
    load = load_on(cluster, "gpu2")
    begun_ns = time.monotonic_ns()
    reload(cluster, config("gpu1", "gpu3"), "force")
    cut = wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu2", what="cut"), "gpu2 cut")[0]
    assert cut["evidence"]["flows"] > 0
    records = cluster.load_end(load)
    assert {r["backend"] for r in records if r["error"]} <= {"gpu2", None}
    assert [r for r in records if r["error"]]


def test_a_reload_by_force_that_only_cuts_says_what(cluster, started, config):
    load = load_on(cluster, "gpu2")
    reload(cluster, config("gpu1", "gpu3"))
    assert cluster.states()["gpu2"] == "draining"
    begun_ns = time.monotonic_ns()
    assert reload(cluster, config("gpu1", "gpu3"), "force") == ["backend gpu2: removed before, what it still serves is cut"]
    wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu2", what="cut"), "gpu2 cut")
    assert reload(cluster, config("gpu1", "gpu3"), "force") == []
    assert {r["backend"] for r in cluster.load_end(load) if r["error"]} == {"gpu2"}


def test_a_weight_moves_no_more_than_it_must_and_breaks_no_stream(cluster, started, config):
    load = load_on(cluster, "gpu1", "gpu2", "gpu3")
    before = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
    assert reload(cluster, config("gpu1", "gpu2", "gpu3", gpu2=", weight: 300")) == ["backend gpu2: weight 100 becomes 300"]
    after = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
    assert after["gpu2"] > 1.5 * before["gpu2"]
    unbroken(cluster, load)
    assert set(cluster.states().values()) == {"up"}


def test_another_order_of_lines_is_no_change(cluster, started, config):
    before = mapping(cluster)
    assert reload(cluster, config("gpu3", "gpu1", "gpu2")) == []
    assert mapping(cluster) == before
    assert cluster.events(started, object="pool", what="table rebuilt", why="the configuration changed") == []


def test_another_number_of_slots_breaks_no_stream(cluster, started, config):
    load = load_on(cluster, "gpu1", "gpu2", "gpu3")
    assert reload(cluster, config("gpu1", "gpu2", "gpu3", slots=2039)) == ["pool gpus: slots 1021 becomes 2039"]
    assert {v["slots"] for v in cluster.shunt("vip", "show")} == {2039}
    assert len({a["backend"] for a in cluster.ask(VIP4, 32)}) == 3
    unbroken(cluster, load)


def test_another_address_makes_another_backend(cluster, started, config):
    was = ids(cluster)["gpu3"]
    text = config("gpu1", "gpu2", "gpu3").replace(cluster.backends[2].ipv4, cluster.backends[3].ipv4)
    assert reload(cluster, text) == ["backend gpu3 removed from pool gpus", "backend gpu3 added to pool gpus"]
    wait_for(lambda: [b["address"] for b in cluster.shunt("backend", "show", "gpu3") if b["state"] == "up"]
             == [cluster.backends[3].ipv4], "the new gpu3 up")
    assert was not in [b["id"] for b in cluster.shunt("backend", "show", "gpu3") if b["state"] == "up"]
    assert {a["backend"] for a in cluster.ask(VIP4, 32)} == {"gpu1", "gpu2", "gpu4"}  # as its engine calls itself


def two_pools(cluster, chat):
    """gpu1 and gpu2 in one pool, gpu3 and gpu4 in another; `chat` is the pool of the VIP."""
    pools = "".join(f"  - name: {name}\n    forward: ipip\n    slots: 1021\n    backends:\n" +
                    "".join(f"      - {{name: {b.name}, address: {b.ipv4}}}\n" for b in members)
                    for name, members in (("low", cluster.backends[:2]), ("high", cluster.backends[2:])))
    vips = (f"  - {{name: chat4, address: {VIP4}, protocol: tcp, port: 80, pool: {chat}}}\n"
            f"  - {{name: other, address: {VIP4}, protocol: tcp, port: 8001, pool: low}}\n"
            f"  - {{name: another, address: {VIP4}, protocol: tcp, port: 8002, pool: high}}")
    return cluster.config(interval="1ms", multiplier=10, hold="100ms", pools=pools, vips=vips)


def test_a_vip_goes_to_another_pool_and_no_stream_breaks(cluster, shuntd):
    shuntd(two_pools(cluster, "low"))
    load = load_on(cluster, "gpu1", "gpu2")
    assert reload(cluster, two_pools(cluster, "high")) == ["vip chat4: pool low becomes high"]
    assert {a["backend"] for a in cluster.ask(VIP4, 16)} == {"gpu3", "gpu4"}
    assert {a["backend"] for a in cluster.ask(VIP4, 16, port=8001)} == {"gpu1", "gpu2"}
    assert unbroken(cluster, load) == {"gpu1", "gpu2", "gpu3", "gpu4"}


def test_a_pool_that_is_removed_drains_when_its_vip_has_left(cluster, shuntd, config):
    shuntd(two_pools(cluster, "low"))
    load = load_on(cluster, "gpu1", "gpu2")
    text = two_pools(cluster, "high").replace("pool: low", "pool: high")
    at = text.index("  - name: low")
    text = text[:at] + text[text.index("  - name: high"):]
    reload(cluster, text)
    assert cluster.states()["gpu1"] == cluster.states()["gpu2"] == "draining"
    assert {a["backend"] for a in cluster.ask(VIP4, 16, port=8001)} == {"gpu3", "gpu4"}
    unbroken(cluster, load)
    assert {s["pool"] for s in cluster.shunt("slot", "show")} == {"high"}


def test_vips_are_added_and_removed(cluster, started, config):
    vips = "\n".join(f"  - {{name: chat{port}, address: {VIP4}, protocol: tcp, port: {port}, pool: gpus}}" for port in (80, 8001))
    changes = reload(cluster, config("gpu1", "gpu2", "gpu3", rest={"vips": vips}))
    assert f"vip chat8001 added at tcp {VIP4} port 8001" in changes
    assert f"vip chat6 removed at tcp 2001:db8:ff::10 port 80" in changes and "vip chat80 renamed from chat4" in changes
    assert {v["name"] for v in cluster.shunt("vip", "show")} == {"chat80", "chat8001"}
    for port in (80, 8001):
        assert {a["error"] for a in cluster.ask(VIP4, 4, port=port)} == {None}


def test_a_vip_with_another_name_keeps_its_flows(cluster, started, config):
    """Those of a removed backend, too, which nothing but the journal leads to it."""
    load = load_on(cluster, "gpu1", "gpu2", "gpu3")
    id_before = next(v["id"] for v in cluster.shunt("vip", "show") if v["name"] == "chat4")
    changes = reload(cluster, config("gpu1", "gpu3").replace("name: chat4,", "name: talk,"))
    assert changes == ["backend gpu2 removed from pool gpus", "vip talk renamed from chat4"]
    assert next(v["id"] for v in cluster.shunt("vip", "show") if v["name"] == "talk") == id_before
    flows = cluster.shunt("flow", "show", "vip", "talk")["flows"]
    assert {f["backend"] for f in flows} == {"gpu1", "gpu2", "gpu3"}
    swept_ns = time.monotonic_ns() + 4_000_000_000  # the sweep goes round in 2.6 s
    wait_for(lambda: time.monotonic_ns() > swept_ns, "the sweep")
    unbroken(cluster, load)
    assert downs(cluster, started) == []


def test_a_pool_whose_backends_are_all_replaced_serves_meanwhile(cluster, shuntd, config):
    shuntd(config("gpu1", "gpu2"), "gpu1", "gpu2")
    begun_ns = time.monotonic_ns()
    load = load_on(cluster, "gpu1", "gpu2")
    reload(cluster, config("gpu3", "gpu4"))
    assert set(mapping(cluster).values()) == {"gpu3", "gpu4"}
    wait_for(lambda: len(cluster.events(begun_ns, object="backend", what="drained")) == 2, "the old ones to be drained")
    assert unbroken(cluster, load) == {"gpu1", "gpu2", "gpu3", "gpu4"}
    assert cluster.reasons()["NO_BACKEND"] == 0 and downs(cluster, begun_ns) == []


def test_a_vip_that_goes_to_a_new_pool_is_served_meanwhile(cluster, shuntd, config):
    shuntd(config("gpu1", "gpu2"), "gpu1", "gpu2")
    load = load_on(cluster, "gpu1", "gpu2")
    reload(cluster, config("gpu3", "gpu4").replace("gpus", "fresh"))
    assert unbroken(cluster, load) == {"gpu1", "gpu2", "gpu3", "gpu4"}
    assert cluster.reasons()["NO_BACKEND"] == 0


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_a_wrong_replacement_is_taken_back_and_nobody_noticed(cluster, shuntd, config, crash):
    """While those who come are waited for another file is taken, and those before serve."""
    rest = {"pin": cluster.pin}
    shuntd(config("gpu1", "gpu2", rest=rest), "gpu1", "gpu2")
    load = load_on(cluster, "gpu1", "gpu2")
    cluster.plug.unplug("gpu4")
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", config("gpu4", rest=rest))
    cluster.shunt("config", "reload")
    if crash:
        cluster.kill_shuntd()
        cluster.start_shuntd(config("gpu4", rest=rest))
    cluster.shunt("backend", "drain", "gpu2")
    assert cluster.states()["gpu1"] == "up" and cluster.states()["gpu2"] == "draining"
    assert {a["backend"] for a in cluster.ask(VIP4, 8)} == {"gpu1"}
    reload(cluster, config("gpu1", "gpu2", rest=rest))
    wait_for(lambda: len([b for b in cluster.shunt("backend", "show") if b["state"] == "up"]) == 2, "both again")
    unbroken(cluster, load)
    assert cluster.reasons()["NO_BACKEND"] == 0 and downs(cluster, begun_ns) == []
    cluster.plug.plug("gpu4")
    cluster.forget()


def test_backends_in_whose_place_nobody_comes_leave_all_the_same(cluster, shuntd, config):
    shuntd(config("gpu1", "gpu2"), "gpu1", "gpu2")
    cluster.plug.unplug("gpu4")
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", config("gpu4"))
    cluster.shunt("config", "reload")
    assert cluster.states()["gpu1"] == "up" and {a["error"] for a in cluster.ask(VIP4, 4)} == {None}
    wait_for(lambda: cluster.events(begun_ns, object="shuntd", what="reloaded"), "the end of the reload", 15)
    wait_for(lambda: "gpu1" not in cluster.states(), "gpu1 to be gone", 15)


@pytest.mark.parametrize("detector", ["kernel", "controller"])
def test_the_probes_change_their_pace_and_their_judge_without_a_verdict(cluster, shuntd, config, detector):
    other = {"kernel": "controller", "controller": "kernel"}[detector]
    shuntd(config("gpu1", "gpu2", "gpu3", "gpu4", rest={"detector": detector}))
    begun_ns = time.monotonic_ns()
    text = config("gpu1", "gpu2", "gpu3", "gpu4", rest={"detector": other}).replace("interval: 1ms", "interval: 2ms")
    assert reload(cluster, text) == ["config probe.interval: 1ms becomes 2ms", f"config detector: {detector} becomes {other}"]
    stats = cluster.shunt("stats", "show")
    assert (stats["detector"], stats["probe"]["interval_us"]) == (other, 2000)
    ticks = stats["probe"]["ticks"]
    wait_for(lambda: cluster.shunt("stats", "show")["probe"]["ticks"] > ticks + 10, "the rule being run")
    assert downs(cluster, begun_ns) == []
    fault_ns = cluster.plug.unplug("gpu2")
    wait_for(lambda: cluster.events(fault_ns, object="backend", name="gpu2", what="down"), "the verdict")
    assert [e["name"] for e in cluster.events(fault_ns, object="backend", what="down")] == ["gpu2"]


def test_sighup_reloads(cluster, started, config):
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", config("gpu1", "gpu2", "gpu3", "gpu4"))
    cluster.shuntd.send_signal(signal.SIGHUP)
    wait_reloaded(cluster, begun_ns)
    assert cluster.events(begun_ns, object="backend", name="gpu4", what="added")
    cluster.wait_states(gpu4="up")


def test_reloads_in_quick_succession_end_with_the_last_file_and_break_no_stream(cluster, started, config):
    """gpu4 comes and goes: each time as another backend, while its former selves drain."""
    load = load_on(cluster, "gpu1", "gpu2", "gpu3")
    for _ in range(4):
        begun_ns = time.monotonic_ns()
        cluster.write("shunt.yaml", config("gpu1", "gpu2", "gpu3"))
        cluster.shunt("config", "reload")
        cluster.write("shunt.yaml", config("gpu1", "gpu2", "gpu3", "gpu4"))
        cluster.shuntd.send_signal(signal.SIGHUP)  # flows may be led over still
        wait_for(lambda: cluster.events(begun_ns, object="backend", name="gpu4", what="up"), "gpu4 up")
        wait_for(lambda: cluster.shunt("backend", "show", "gpu4")[0]["live"], "streams on gpu4")
    assert "gpu4" in unbroken(cluster, load)
    wait_for(lambda: [b["name"] for b in cluster.shunt("backend", "show")] == ["gpu1", "gpu2", "gpu3", "gpu4"], "one gpu4")
    assert set(cluster.states().values()) == {"up"}
    assert downs(cluster, started) == []


def test_weights_and_reloads_in_quick_succession_end_with_the_last_of_each(cluster, started, config):
    load = load_on(cluster, "gpu1", "gpu2", "gpu3")
    for weight in (300, 50, 200, 400):
        cluster.shunt("backend", "set", "gpu1", "weight", str(weight))
        cluster.write("shunt.yaml", config("gpu1", "gpu2", "gpu3", gpu2=f", weight: {weight}"))
        cluster.shunt("config", "reload")
    assert {b["name"]: b["weight"] for b in cluster.shunt("backend", "show")} == {"gpu1": 400, "gpu2": 400, "gpu3": 100}
    wait_for(lambda: min(s["owner"] for s in cluster.shunt("slot", "show") if s["backend"] != "gpu3") > 400, "the last weights")
    unbroken(cluster, load)


def test_sighup_with_a_bad_file_changes_nothing_and_the_ledger_says_why(cluster, started, config):
    begun_ns = time.monotonic_ns()
    cluster.write("shunt.yaml", config("gpu1", "gpu2", "gpu3") + "colour: red\n")
    cluster.shuntd.send_signal(signal.SIGHUP)
    event = wait_for(lambda: cluster.events(begun_ns, what="reload refused"), "the refusal")[0]
    assert f"{cluster.directory}/shunt.yaml:" in event["why"] and "colour" in event["why"]
    assert set(cluster.states()) == {"gpu1", "gpu2", "gpu3"}


def test_an_absent_file_changes_nothing(cluster, started):
    (cluster.directory / "shunt.yaml").unlink()
    with pytest.raises(RuntimeError):
        cluster.shunt("config", "reload")
    assert set(cluster.states().values()) == {"up"}


def test_interfaces_come_and_go(cluster, started, config):
    def attached():
        return "xdp" in cluster.balancer.run("ip", "link", "show", "dev", "lo")

    text = config("gpu1", "gpu2", "gpu3")
    assert not attached()
    assert reload(cluster, text.replace("[eth0]", "[eth0, lo]")) == ["interface lo added"]
    assert attached() and [i["name"] for i in cluster.shunt("stats", "show")["interfaces"]] == ["eth0", "lo"]
    assert reload(cluster, text) == ["interface lo removed"]
    assert not attached() and [i["name"] for i in cluster.shunt("stats", "show")["interfaces"]] == ["eth0"]


def test_what_a_vip_does_with_orphans_and_floods_changes_without_a_move(cluster, started, config):
    def of_chat4(text):
        return text.replace("name: chat4,", "name: chat4, on_failure: drop, syn_limit: {rate: 1, burst: 1, action: count},")

    changes = reload(cluster, of_chat4(config("gpu1", "gpu2", "gpu3")))
    assert changes == ["vip chat4: on_failure reset becomes drop", "vip chat4: another syn_limit"]
    assert cluster.events(started, object="pool", what="flows moved") == []
    cluster.ask(VIP4, 4)
    policed = {v["name"]: v["policed"] for v in cluster.shunt("vip", "show")}
    assert policed.pop("chat4") >= 3 and not any(policed.values())
