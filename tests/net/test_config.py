# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The running configuration: looked at, compared, replaced and saved; and what is wrong with one changes nothing."""
import os
import pathlib
import re
import subprocess
import time

import pytest

from topology import VIP4, run, wait_for

KEY = "000102030405060708090a0b0c0d0e0f"


def text_of(cluster, *names, **said):
    """A configuration of these backends, each with what is said of it."""
    addresses = {b.name: b.ipv4 for b in cluster.backends}
    lines = "\n".join(f"      - {{name: {n}, address: {addresses[n]}{said.pop(n, '')}}}" for n in names)
    return cluster.config(interval="1ms", multiplier=10, hold="100ms",
                          pools=f"  - name: gpus\n    forward: ipip\n    slots: 1021\n    backends:\n{lines}", **said)


def good(cluster):
    return text_of(cluster, "gpu1", "gpu2", "gpu3")


@pytest.fixture(scope="module")
def running(cluster):
    """A controller for all tests of this file that leave it as it was, under streams of which none breaks."""
    cluster.start_shuntd(good(cluster))
    cluster.wait_states(gpu1="up", gpu2="up", gpu3="up")
    load = cluster.start_load(50)
    wait_for(lambda: any(b["live"] for b in cluster.shunt("backend", "show")), "streams")
    yield cluster
    records = cluster.load_end(load)
    cluster.stop_shuntd()
    assert records and [r for r in records if r["error"]] == []


def shown(cluster):
    return cluster.shunt_text("config", "show")


def refused(cluster, *argv, **kw):
    """What is said by a command that exits 1."""
    done = subprocess.run([str(a) for a in cluster.shunt_argv(*argv)], capture_output=True, timeout=60, **kw)
    assert (done.returncode, done.stdout) == (1, b""), done
    return done.stderr.decode()


# ---- what is wrong ----

def replaced(old, new):
    def edit(text, cluster):
        assert old in text
        return text.replace(old, new, 1)
    return edit


def appended(line):
    return lambda text, cluster: text + line + "\n"


def with_keys(content, mode=0o600):
    def edit(text, cluster):
        path = cluster.write("bad.key", content)
        path.chmod(mode)
        return text.replace("interval: 1ms", f"key_file: {path}, interval: 1ms")
    return edit


# What is wrong: (how, what is said, what stands in the line that is named).
WRONG = {
    "an unknown key": (appended("colour: red"), "unknown key 'colour'", "colour"),
    "half a file": (lambda text, cluster: text[:len(text) // 2], "expected", ""),
    "an empty file": (lambda text, cluster: "", "expected", ""),
    "a tab": (replaced("    forward", "\tforward"), "expected", "forward"),
    "bytes that are no UTF-8": (appended("# \udcff"), "UTF-8", "#"),
    "a key twice": (appended("seed: 1"), "seed", "seed: 1"),
    "no number": (replaced("multiplier: 10", "multiplier: ten"), "multiplier is 'ten'", "multiplier"),
    "a number out of bounds": (replaced("multiplier: 10", "multiplier: 1"), "expected", "multiplier"),
    "a time without unit": (replaced("hold: 100ms", "hold: 100"), "hold is '100'", "hold"),
    "no prime": (replaced("slots: 1021", "slots: 1022"), "prime", "slots"),
    "a weight of zero": (replaced("address: 10.0.0.11", "weight: 0, address: 10.0.0.11"), "weight is '0'", "weight"),
    "a backend twice": (replaced("name: gpu2", "name: gpu1"), "gpu1", "gpu1"),
    "an address twice": (replaced("10.0.0.12", "10.0.0.11"), "10.0.0.11", "10.0.0.11"),
    "no address": (replaced("10.0.0.12", "10.0.0.256"), "10.0.0.256", "10.0.0.256"),
    "a pool that is not there": (replaced("pool: gpus", "pool: gups"), "expected gpus", "gups"),
    "a VIP that is a backend": (replaced(f"address: '{VIP4}'", "address: 10.0.0.11"), "10.0.0.11", "10.0.0.11"),
    "an interface that is not there": (replaced("[eth0]", "[eth0, eth7]"), "eth7: no such interface", "eth7"),
    "an address that BFD would ask twice":
        (replaced("pools:\n", "pools:\n  - name: more\n    forward: ipip\n    slots: 251\n    backends:\n"
                  "      - {name: one, check: bfd, address: 10.0.0.14}\n  - name: again\n    forward: ipip\n    slots: 251\n"
                  "    backends:\n      - {name: two, check: bfd, address: 10.0.0.14}\n"), "among those that BFD asks", "two"),
    "keys that are not there": (replaced("interval: 1ms", "key_file: /nonexistent/keys, interval: 1ms"), "No such file", "key_file"),
    "keys that anybody may read": (with_keys(KEY + "\n", 0o644), "bad.key", "key_file"),
    "a key of other digits": (with_keys("no key\n"), "hexadecimal", "key_file"),
    "another seed": (replaced("seed: 0x5eed", "seed: 0x6eed"), "seed can't change", "seed"),
    "another socket": (replaced("shuntd.sock", "other.sock"), "control.socket can't change", "socket"),
    "another group": (replaced("shuntd.sock", "shuntd.sock, group: root"), "control.group can't change", "root"),
    "other admins": (replaced("shuntd.sock", "shuntd.sock, admins: root"), "control.admins can't change", "root"),
    "another size of the journal": (appended("flows: {max: 2048}"), "flows.max can't change", "2048"),
    "another place for pins": (replaced("pin: none", "pin: /sys/fs/bpf/elsewhere"), "pin can't change", "elsewhere"),
    "another place for state": (replaced("state: none", "state: /elsewhere"), "state can't change", "elsewhere"),
    "a listener": (appended("http: {port: 9999}"), "http can't change", "9999"),
}
assert len(WRONG) >= 20


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_configuration_changes_nothing_and_is_told_its_place(running, what):
    edit, words, culprit = WRONG[what]
    text = edit(good(running), running).encode("utf-8", "surrogateescape")
    before, states, events = shown(running), running.states(), len(running.events(object="backend"))
    for name, command in (("shunt.yaml", ["reload"]), ("wrong.yaml", ["apply"]), ("wrong.yaml", ["diff"])):
        path = running.directory / name
        path.write_bytes(text)
        said = refused(running, "config", *command, *([path] if name == "wrong.yaml" else []))
        place = re.search(rf"{re.escape(str(path))}:(\d+):(\d+): .*{re.escape(words)}", said)
        assert place, said
        line = [*text.splitlines(), b""][int(place[1]) - 1]
        assert culprit.encode() in line and 1 <= int(place[2]) <= len(line) + 1, said
        assert shown(running) == before
    assert (running.states(), len(running.events(object="backend"))) == (states, events)
    assert {a["error"] for a in running.ask(VIP4, 2)} == {None}


@pytest.fixture
def foreign(running):
    """An interface with somebody else's program."""
    running.balancer.ip("link add foreign0 type veth peer name foreign1", "link set foreign0 up", "link set foreign1 up")
    program = running.directory / "foreign.c"
    program.write_text('__attribute__((section("xdp"))) int pass_all(void *c) { (void)c; return 2; }\n')
    run("clang", "-target", "bpf", "-O2", "-c", program, "-o", program.with_suffix(".o"))
    running.balancer.run("ip", "link", "set", "foreign0", "xdp", "obj", program.with_suffix(".o"), "sec", "xdp")
    yield "foreign0"
    running.balancer.ip("link del foreign0")


def test_an_interface_that_has_a_program_already_is_left_to_it(running, foreign):
    before, path = shown(running), running.write("wrong.yaml", good(running).replace("[eth0]", f"[eth0, {foreign}, lo]"))
    said = refused(running, "config", "apply", path)
    assert re.search(rf"{path}:1:20: .*{foreign}", said), said
    assert shown(running) == before
    assert "xdp" not in running.balancer.run("ip", "link", "show", "dev", "lo")


# ---- compare and apply ----

def test_what_is_shown_is_no_change(running):
    path = running.write("again.yaml", shown(running))
    running.write("shunt.yaml", good(running))
    for argv in (["diff"], ["diff", path], ["apply", path], ["reload"]):
        assert running.shunt("config", *argv) == {"changes": [], "text": "no change\n"}


def test_a_comparison_tells_what_an_application_then_does(running):
    before, path = shown(running), running.write("other.yaml", text_of(running, "gpu1", "gpu2", "gpu3", gpu2=", weight: 300"))
    sentences = ["backend gpu2: weight 100 becomes 300"]
    assert running.shunt("config", "diff", path)["changes"] == sentences
    assert shown(running) == before
    assert running.shunt("config", "apply", path)["changes"] == sentences
    assert (running.directory / "shunt.yaml").read_text() == good(running)
    assert running.shunt("config", "diff")["changes"] == ["backend gpu2: weight 300 becomes 100"]
    running.shunt("config", "reload")
    assert shown(running) == before


def test_a_configuration_may_come_from_a_pipe(running):
    for command, text in (("diff", good(running)), ("apply", good(running)), ("check", good(running))):
        assert run(*running.shunt_argv("config", command, "-"), text=text)
    said = refused(running, "config", "apply", "-", input=b"seed: 1\nx: 2\n")
    assert re.search(r"^<stdin>:2:1: ", said), said


def test_a_file_as_long_as_may_be_is_applied(running):
    text = good(running)
    path = running.write("long.yaml", text + "".join("#" + "\"" * 98 + "\n" for _ in range((4 << 20) // 100 - len(text) // 100 - 1)))
    assert 4 << 20 >= path.stat().st_size > (4 << 20) - 1000
    assert running.shunt("config", "apply", path)["changes"] == []
    path.write_text(text + "#" * (4 << 20))
    assert re.search(rf"^{path}:\d+:\d+: ", refused(running, "config", "apply", path))


def test_who_may_only_read_can_not_command(running, for_all, monkeypatch):
    running.socket.chmod(0o666)
    program = for_all(running.build / "shunt")
    monkeypatch.setattr(running, "shunt_argv", lambda *argv: [program, "-s", running.socket, *argv])
    for command in (["config", "apply", "-"], ["config", "diff"], ["config", "reload"], ["backend", "set", "gpu1", "weight", "7"]):
        said = refused(running, *command, input=good(running).encode(), user=65534)
        assert "for root only" in said, said
    too_much = subprocess.run([str(a) for a in running.shunt_argv("config", "apply", "-")], user=65534, capture_output=True,
                              input=(good(running) + "#" * 300000).encode())
    assert too_much.returncode == 2 and b"longer than 65536 bytes" in too_much.stderr
    assert subprocess.run([str(a) for a in running.shunt_argv("config", "show")], user=65534, capture_output=True).returncode == 0


def test_the_event_says_whose_command_it_was(running):
    since = time.monotonic_ns()
    running.shunt("config", "reload")
    event = wait_for(lambda: running.events(since, what="reloaded"), "the event")[-1]
    assert event["evidence"]["uid"] == 0
    refused(running, "config", "apply", running.write("wrong.yaml", good(running).replace("seed: 0x5eed", "seed: 0x6eed")))
    assert running.events(since, what="reload refused")[-1]["evidence"] == {"uid": 0}


# ---- save ----

def test_what_is_saved_is_what_is_shown_and_the_file_before_is_kept(running):
    path = running.write("shunt.yaml", "# mine\n" + good(running))
    path.chmod(0o640)
    os.chown(path, 0, 4)
    running.shunt("backend", "set", "gpu1", "weight", "250")
    saved = running.shunt("config", "save")
    assert saved == {"file": str(path), "before": f"{path}~"}
    assert path.read_text() == shown(running) and "weight: 250" in path.read_text()
    assert pathlib.Path(f"{path}~").read_text() == "# mine\n" + good(running)
    assert (path.stat().st_mode & 0o7777, path.stat().st_gid) == (0o640, 4)
    assert running.shunt("config", "diff")["changes"] == []
    running.shunt("config", "reload")
    assert [b["configured_weight"] for b in running.shunt("backend", "show", "gpu1")] == [250]
    running.write("shunt.yaml", good(running))
    running.shunt("config", "reload")


@pytest.mark.parametrize("where", ["write:1", "fsync:1", "link:1", "rename:1", "rename:2", "fsync:2"])
@pytest.mark.parametrize("how", ["signal=SIGKILL", "error=EIO"])
def test_a_save_that_ends_in_between_leaves_the_old_file_or_the_new_one(running, where, how):
    call, when = where.split(":")
    before = "# mine\n" + good(running)
    path = running.write("shunt.yaml", before)
    done = subprocess.run(["strace", "-o", "/dev/null", "-e", f"inject={call}:{how}:when={when}",
                           *map(str, running.shunt_argv("config", "save"))], capture_output=True, timeout=60)
    assert done.returncode == (1 if how.startswith("error") else -9), done
    assert path.read_text() in (before, shown(running))
    if how.startswith("error"):
        assert [p.name for p in running.directory.glob("shunt.yaml*") if p.name not in ("shunt.yaml", "shunt.yaml~")] == []
    for left in running.directory.glob("shunt.yaml?*"):
        left.unlink()
    path.write_text(good(running))
