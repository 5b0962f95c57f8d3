# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A controller that is restarted, killed or replaced: what it left in the kernel serves, and the next one goes on with it."""
import json
import random
import subprocess
import time

import pytest

from topology import VIP4, run, wait_for

PORTS = range(20000, 20032)
NAMES = ["gpu1", "gpu2", "gpu3"]


def config(cluster, *names, interval="1ms", seed=None, rest=None, **said):
    """Three of the backends unless others are named, each with what is said of it; pinned."""
    backends = {b.name: b for b in cluster.backends}
    lines = "\n".join(f"      - {{name: {n}, address: {backends[n].ipv4}{said.get(n, '')}}}" for n in names or NAMES)
    pools = f"  - name: gpus\n    forward: ipip\n    slots: {said.get('slots', 1021)}\n    backends:\n{lines}"
    text = cluster.config(interval=interval, multiplier=10, hold="100ms", pools=pools, pin=cluster.pin, **(rest or {}))
    text = text.replace("control:", "flows: {closed: 1s}\ncontrol:", 1)
    return text.replace("0x5eed0123456789ab", seed) if seed else text


@pytest.fixture
def life(cluster):
    """Starts a controller with a configuration; in the end nothing of it is left."""
    def start(text, *names):
        process = cluster.start_shuntd(text)
        cluster.wait_states(**{name: "up" for name in names or NAMES})
        return process
    yield start
    cluster.plug.plug(*[h.name for h in cluster.hosts])
    cluster.forget()


def ids(cluster):
    return {b["name"]: b["id"] for b in cluster.shunt("backend", "show")}


def mapping(cluster, vip="chat4"):
    return {port: cluster.where(port, vip) for port in PORTS}


def fallen(cluster):
    return cluster.events(object="backend", what="down")


def said(cluster, name="shuntd"):
    return [e["what"] for e in cluster.shunt("event", "show") if e["object"] == name]


def unbroken(cluster, load):
    records = cluster.load_end(load)
    assert [r for r in records if r["error"]] == []
    return {r["backend"] for r in records}


def shown_offline(cluster, *words):
    """What the command line answers without a daemon, and what it says of that."""
    done = cluster.balancer.try_run("env", f"SHUNT_CONFIG={cluster.directory / 'shunt.yaml'}", *cluster.shunt_argv("-j", *words))
    assert done.returncode == 0, done.stderr
    assert "shuntd is not running: this is what it left in the kernel" in done.stderr
    return json.loads(done.stdout)


END = {"told to end": lambda c: c.stop_shuntd(), "killed": lambda c: c.kill_shuntd()}


@pytest.mark.parametrize("end", END)
def test_controller_that_is_gone_serves_on_and_the_next_goes_on_as_if_it_had_been_there(cluster, life, end):
    life(config(cluster))
    before, at = ids(cluster), mapping(cluster)
    load = cluster.start_load(50)
    wait_for(lambda: all(b["live"] for b in cluster.shunt("backend", "show")), "streams on all")
    live = {b["name"]: b["live"] for b in cluster.shunt("backend", "show")}
    END[end](cluster)
    assert "xdp" in cluster.balancer.run("ip", "link", "show", "eth0")
    assert [r["error"] for r in cluster.ask(VIP4, 20)] == [None] * 20
    life(config(cluster))
    assert "took over" in said(cluster) and fallen(cluster) == [] and set(said(cluster, "backend")) <= {"up"}
    assert (ids(cluster), mapping(cluster)) == (before, at)
    assert all(live.values())
    assert unbroken(cluster, load) == set(NAMES)


def test_what_is_pinned_is_shown_while_no_controller_runs(cluster, life):
    life(config(cluster, gpu2=", weight: 50"))
    load = cluster.start_load(50)
    wait_for(lambda: all(b["live"] for b in cluster.shunt("backend", "show")), "streams on all")
    cluster.shunt("backend", "drain", "gpu3")
    cluster.wait_states(gpu3="draining")
    stable = ("name", "pool", "id", "address", "weight", "state", "verdict", "since", "draining", "egress", "mac", "mtu", "local")
    before = {(command, o["name"]): {k: o.get(k) for k in stable}
              for command in ("backend", "vip") for o in cluster.shunt(command, "show")}
    slots, at = cluster.shunt("slot", "show"), mapping(cluster)
    pool = {k: cluster.shunt("pool", "show")[0][k] for k in ("name", "slots", "backends", "up", "draining", "down")}
    cluster.kill_shuntd()
    after = {(command, o["name"]): {k: o.get(k) for k in stable}
             for command in ("backend", "vip") for o in shown_offline(cluster, command, "show")}
    assert after == before
    assert shown_offline(cluster, "slot", "show") == slots
    source = f"{cluster.client.ipv4}:{PORTS[0]}"
    assert shown_offline(cluster, "flow", "where", source, "chat4")["backend"] == at[PORTS[0]]
    assert shown_offline(cluster, "flow", "show")["flows"]
    stats = shown_offline(cluster, "stats", "show")
    assert (stats["ill_because"], stats["uptime_s"], stats["detector"]) == ("shuntd does not run", None, None)
    shown, = shown_offline(cluster, "pool", "show")
    assert pool.items() <= shown.items() and shown["live"] and shown["availability"] is None is shown["heirs_changed"]
    assert shown_offline(cluster, "backend", "show", "gpu1")[0]["availability"] is None
    assert {v["held"] for v in shown_offline(cluster, "vip", "show")} == {None}  # nobody looks
    refused = cluster.balancer.try_run(*cluster.shunt_argv("backend", "undrain", "gpu3"))
    assert refused.returncode == 1 and "shuntd is not running" in refused.stderr
    cluster.load_end(load)


def test_daemon_says_what_it_went_on_with(cluster, life):
    process = life(config(cluster))
    first = cluster.shunt("daemon", "show")
    assert first["start"] == "first" and first["pid"] == process.pid and first["pin"] == str(cluster.pin)
    assert [(i["name"], i["attached"], i["mode"]) for i in first["interfaces"]] == [("eth0", True, "native")]
    life(config(cluster))
    second = cluster.shunt("daemon", "show")
    assert (second["start"], second["runs"], second["generation"]) == ("took over", 2, first["generation"])
    assert second["interfaces"][0]["program"] != first["interfaces"][0]["program"]
    life(config(cluster, seed="0x1234567812345678"))
    third = cluster.shunt("daemon", "show")
    assert (third["start"], third["runs"]) == ("began anew", 1) and third["generation"] > second["generation"]


def test_daemon_is_stopped_and_stays_in_the_kernel_unless_told_to_leave_it(cluster, life):
    process = life(config(cluster))
    assert "goes on" in cluster.shunt_text("daemon", "stop")
    assert process.wait(5) == 0 and cluster.pin.exists()
    assert [r["error"] for r in cluster.ask(VIP4, 5)] == [None] * 5
    process = life(config(cluster))
    assert "no VIP is served" in cluster.shunt_text("daemon", "stop", "--detach")
    assert process.wait(5) == 0 and not cluster.pin.exists()
    wait_for(lambda: "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0"), "eth0 without a program")


def test_change_of_the_file_while_no_controller_ran_is_a_reload(cluster, life):
    life(config(cluster))
    before = ids(cluster)
    load = cluster.start_load(50)
    wait_for(lambda: all(b["live"] for b in cluster.shunt("backend", "show")), "streams on all")
    cluster.stop_shuntd()
    life(config(cluster, "gpu1", "gpu2", "gpu4", gpu2=", weight: 300", slots=2039), "gpu1", "gpu2", "gpu4")
    assert cluster.states().get("gpu3", "draining") == "draining"
    assert {n: i for n, i in ids(cluster).items() if n in before} == {n: before[n] for n in before if n in ids(cluster)}
    assert ids(cluster)["gpu4"] not in before.values()
    wait_for(lambda: "gpu3" not in cluster.states(), "gpu3 to leave when its last stream has ended", 20)
    owners = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
    assert sum(owners.values()) == 2039 and owners["gpu2"] > 2 * owners["gpu1"]
    assert fallen(cluster) == []
    wait_for(lambda: cluster.shunt("backend", "show", "gpu4")[0]["live"], "a stream on gpu4")
    assert unbroken(cluster, load) == {"gpu1", "gpu2", "gpu3", "gpu4"}


def test_vip_that_came_or_went_while_no_controller_ran_is_there_or_not(cluster, life):
    other = "  - {name: other, address: 203.0.113.10, protocol: tcp, port: 8001, pool: gpus}"
    chat = f"  - {{name: chat4, address: {VIP4}, protocol: tcp, port: 80, pool: gpus}}"
    life(config(cluster, rest={"vips": chat}))
    cluster.stop_shuntd()
    life(config(cluster, rest={"vips": f"{chat}\n{other}"}))
    assert [r["error"] for r in cluster.ask(VIP4, 5, 8001)] == [None] * 5
    cluster.stop_shuntd()
    life(config(cluster, rest={"vips": other}))
    assert [v["name"] for v in cluster.shunt("vip", "show")] == ["other"]
    assert all(r["error"] for r in cluster.ask(VIP4, 3)) and not any(r["error"] for r in cluster.ask(VIP4, 3, 8001))


def test_drain_and_weight_by_command_outlive_a_kill(cluster, life):
    life(config(cluster))
    cluster.shunt("backend", "drain", "gpu2", "--deadline", "10m")
    cluster.shunt("backend", "set", "gpu1", "weight", "300")
    cluster.wait_states(gpu2="draining")
    slots = cluster.shunt("slot", "show")
    cluster.kill_shuntd()
    life(config(cluster), "gpu1", "gpu3")
    shown = {b["name"]: b for b in cluster.shunt("backend", "show")}
    assert (shown["gpu2"]["state"], shown["gpu2"]["draining"]) == ("draining", "drained")
    assert (shown["gpu1"]["weight"], shown["gpu1"]["configured_weight"]) == (300, 100)
    assert cluster.shunt("slot", "show") == slots
    cluster.shunt("backend", "undrain", "gpu2")
    cluster.wait_states(gpu2="up")


def test_backend_that_died_while_no_controller_ran_is_found_at_once_and_one_that_was_dead_stays_so(cluster, life):
    life(config(cluster))
    cluster.plug.unplug("gpu1")
    wait_for(lambda: fallen(cluster), "the end of all doubt about gpu1")
    cluster.kill_shuntd()
    cluster.plug.unplug("gpu2")
    life(config(cluster), "gpu3")
    cluster.wait_states(gpu1="down", gpu2="down", gpu3="up")
    assert {e["name"]: e["why"] for e in fallen(cluster)} == {"gpu2": "silent"}
    cluster.plug.plug("gpu1", "gpu2")
    cluster.wait_states(gpu1="up", gpu2="up")


def restless(cluster, chance):
    """Something that takes shuntd's main loop some time."""
    deed = chance.choice(["reload", "drain", "nothing"])
    if deed == "reload":
        cluster.write("shunt.yaml", config(cluster, gpu1=f", weight: {chance.randrange(50, 200)}", slots=chance.choice([1021, 2039])))
        return cluster.balancer.start("deed", *cluster.shunt_argv("config", "reload"))
    if deed == "drain":
        return cluster.balancer.start("deed", *cluster.shunt_argv("backend", chance.choice(["drain", "undrain"]), "gpu2"))
    return None


def test_controller_that_is_killed_at_any_moment_breaks_nothing(cluster, life):
    chance = random.Random(1)
    life(config(cluster))
    load = cluster.start_load(50)
    for _ in range(12):
        deed = restless(cluster, chance)
        time.sleep(chance.uniform(0, 0.02))  # a moment, not a condition
        cluster.kill_shuntd()
        if deed:
            deed.wait(10)
        life((cluster.directory / "shunt.yaml").read_text(), "gpu1", "gpu3")
        assert "took over" in said(cluster) and fallen(cluster) == []
    cluster.shunt("backend", "undrain", "gpu2")
    cluster.wait_states(gpu1="up", gpu2="up", gpu3="up")
    wait_for(lambda: "changes" in cluster.shunt_text("-j", "config", "reload", check=False), "no flow to be led over any more")
    assert unbroken(cluster, load) >= {"gpu1", "gpu3"}
    wait_for(lambda: all(b["live"] == 0 and b["detours"] == 0 for b in cluster.shunt("backend", "show")), "no flow to be counted", 20)


STEPS = range(1, 26, 2)  # calls of bpf() in a reload that moves slots, and a few that look at the link


def test_controller_that_is_killed_between_any_two_steps_of_a_reload_finishes_it_in_its_next_life(cluster, life):
    slots = [1021, 2039, 2039, 509]
    life(config(cluster))
    load = cluster.start_load(80)
    wait_for(lambda: all(b["live"] for b in cluster.shunt("backend", "show")), "streams on all")
    for i, step in enumerate(STEPS):
        text = config(cluster, gpu1=f", weight: {20 + 180 * (i % 2)}", slots=slots[i % 4])
        cluster.write("shunt.yaml", text)
        killer = cluster.balancer.start("killer", "strace", "-p", cluster.shuntd.pid, "-o", "/dev/null", "-e", "trace=bpf", "-e",
                                        f"inject=bpf:signal=KILL:when={step}")
        wait_for(lambda: "attached" in cluster.log("killer"), "strace")
        deed = cluster.balancer.start("deed", *cluster.shunt_argv("config", "reload"))
        cluster.shuntd.wait(10)
        deed.wait(10)
        killer.wait(10)
        assert not any(r["error"] for r in cluster.ask(VIP4, 3)), f"after step {step}"
        life(text)
        assert fallen(cluster) == []
        wait_for(lambda: "changes" in cluster.shunt_text("-j", "config", "reload", check=False), "no flow to be led over any more")
        shares = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
        assert sum(shares.values()) == slots[i % 4] and (shares["gpu1"] > shares["gpu2"]) == bool(i % 2)
    assert unbroken(cluster, load) == set(NAMES)


def test_controller_that_is_killed_at_any_moment_of_its_start_leaves_what_served(cluster, life):
    chance = random.Random(2)
    life(config(cluster))
    load = cluster.start_load(50)
    cluster.stop_shuntd()
    text = cluster.directory / "shunt.yaml"
    for i in range(12):
        seed = chance.choice(["0x5eed0123456789ab", "0x5eed0123456789ac"]) if i % 3 == 2 else "0x5eed0123456789ab"
        text.write_text(config(cluster, gpu1=f", weight: {100 + i}", seed=seed))
        process = cluster.balancer.start("shuntd", cluster.build / "shuntd", "-f", text)
        try:
            process.wait(chance.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert not any(r["error"] for r in cluster.ask(VIP4, 5))
    life(config(cluster))
    assert fallen(cluster) == []
    assert len(list(cluster.pin.glob("about-*"))) == 1
    assert len(list(cluster.pin.glob("table-*"))) <= 2
    cluster.load_end(load)


@pytest.mark.parametrize("other", ["seed", "capacity", "version"])
def test_maps_that_do_not_fit_are_replaced_without_a_lost_packet(cluster, life, other):
    life(config(cluster))
    at = mapping(cluster)
    cluster.stop_shuntd()
    text = config(cluster)
    if other == "seed":
        text = config(cluster, seed="0x5eed0123456789ac")
    elif other == "capacity":
        text = text.replace("flows: {", "flows: {max: 4096, ")
    else:  # of a later version: its layout isn't known, but for its first four bytes
        for path in cluster.pin.glob("about-*"):
            path.unlink()
        later = cluster.pin / "about-00000007"
        run("bpftool", "map", "create", later, "type", "array", "key", 4, "value", 72, "entries", 1, "name", "about")
        run("bpftool", "map", "update", "pinned", later, "key", *[0] * 4, "value", 99, *[0] * 71)
    load = cluster.start_load(100)
    life(text)
    assert "began anew" in said(cluster) and fallen(cluster) == []
    assert other == "seed" or mapping(cluster) == at
    assert not any(r["error"] for r in cluster.ask(VIP4, 20))
    names = {p.name.rpartition("-")[2] for p in cluster.pin.iterdir() if not p.name.startswith(("xdp-", "table-"))}
    assert len(names) == 1 and (other != "version" or names == {"00000008"})
    records = cluster.load_end(load)
    assert other == "seed" or [r for r in records if r["error"]] == []


def test_second_controller_on_the_same_directory_is_refused(cluster, life):
    life(config(cluster))
    text = config(cluster).replace("shuntd.sock", "second.sock")
    done = cluster.balancer.try_run(cluster.build / "shuntd", "-f", cluster.write("second.yaml", text))
    assert (done.returncode, done.stderr) == (
        1, f"shuntd: {cluster.pin}: another shuntd has this directory, expected one of its own in 'pin'\n")
    assert cluster.states()["gpu1"] == "up"


@pytest.mark.parametrize("obstacle, words", [("elsewhere", "is not in a bpffs"), ("others", "others can write there"),
                                             ("readonly", "Read-only file system")])
def test_controller_that_can_pin_nothing_says_so_and_goes_on(cluster, life, obstacle, words):
    directory, before = cluster.pin, ()
    if obstacle == "elsewhere":
        directory = cluster.directory / "pins"
    elif obstacle == "others":
        directory.mkdir(mode=0o700)
        directory.chmod(0o777)
    else:
        before = ("unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro /sys/fs/bpf && exec "$@"', "-")
    text = config(cluster).replace(f"pin: {cluster.pin}", f"pin: {directory}")
    cluster.shuntd = cluster.balancer.start("shuntd", *before, cluster.build / "shuntd", "-f", cluster.write("shunt.yaml", text))
    wait_for(lambda: cluster.shunt_text("stats", "show", check=False), "shuntd's socket")
    cluster.wait_states(gpu1="up", gpu2="up", gpu3="up")
    event, = cluster.events(what="not pinned")
    assert words in event["why"] and words in cluster.shunt("daemon", "show")["not_pinned_because"]
    assert cluster.stop_shuntd() == 0
    wait_for(lambda: "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0"), "eth0 without a program")


def test_program_that_somebody_detaches_is_attached_again(cluster, life):
    life(config(cluster))
    pin, = cluster.pin.glob("xdp-*")
    shown = json.loads(run("bpftool", "-j", "link", "show", "pinned", pin))
    run("bpftool", "link", "detach", "id", (shown[0] if isinstance(shown, list) else shown)["id"])
    wait_for(lambda: "attached again" in said(cluster, "interface"), "the program to be back")
    assert said(cluster, "interface") == ["detached", "attached again"]
    assert not any(r["error"] for r in cluster.ask(VIP4, 5))
    cluster.kill_shuntd()
    life(config(cluster))
    assert "took over" in said(cluster)


def test_interface_that_is_no_longer_configured_is_left(cluster, life):
    both = config(cluster).replace("interfaces: [eth0]", "interfaces: [eth0, lo]")
    life(both)
    assert "xdp" in cluster.balancer.run("ip", "link", "show", "lo")
    cluster.stop_shuntd()
    life(config(cluster))
    wait_for(lambda: "xdp" not in cluster.balancer.run("ip", "link", "show", "lo"), "lo without a program")
    assert "xdp" in cluster.balancer.run("ip", "link", "show", "eth0")


def test_without_pins_everything_ends_with_the_controller(cluster, life):
    life(config(cluster).replace(f"pin: {cluster.pin}", "pin: none"))
    assert not cluster.pin.exists() and "pin: none" in cluster.shunt("daemon", "show")["not_pinned_because"]
    assert cluster.events(what="not pinned") == []
    cluster.kill_shuntd()
    wait_for(lambda: "xdp" not in cluster.balancer.run("ip", "link", "show", "eth0"), "eth0 without a program")


def detector(cluster):
    pin, = cluster.pin.glob("detector-*")
    return json.loads(run("bpftool", "-j", "map", "dump", "pinned", pin))[0]["formatted"]["value"]


def test_nobody_is_judged_while_no_controller_asks(cluster, life):
    life(config(cluster))
    assert detector(cluster)["ticks"]
    cluster.kill_shuntd()
    before = detector(cluster)
    cluster.plug.unplug("gpu1")
    cluster.ask_udp(VIP4, 20)  # takes seconds: some go to gpu1
    after = detector(cluster)
    assert (after["ticks"], after["round"]) == (before["ticks"], before["round"])
    assert {b["name"]: b["state"] for b in shown_offline(cluster, "backend", "show")} == dict.fromkeys(NAMES, "up")
    life(config(cluster), "gpu2", "gpu3")
    cluster.wait_states(gpu1="down")
    cluster.plug.plug("gpu1")
