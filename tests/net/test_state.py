# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What commands set outlives shuntd, and nothing that is wrong with the file it is kept in keeps shuntd from serving."""
import contextlib
import datetime
import json
import signal
import subprocess
import time

import pytest

from topology import VIP4, run, wait_for

NOTHING = {"version": 1, "drains": [], "weights": {}}


@pytest.fixture
def directory(cluster):
    """Where state is kept, not there yet."""
    path = cluster.directory / f"state-{time.monotonic_ns()}"
    yield path
    cluster.stop_shuntd()


@pytest.fixture
def start(cluster, directory):
    """Starts shuntd anew; returns the moment before."""
    def begin(*names, **said):
        pin = said.pop("pin", None)
        addresses = {b.name: b.ipv4 for b in cluster.backends}
        lines = "\n".join(f"      - {{name: {n}, address: {addresses[n]}{said.get(n, '')}}}" for n in names or addresses)
        text = cluster.config(interval="1ms", multiplier=10, hold="100ms", pin=pin,
                              pools=f"  - name: gpus\n    forward: ipip\n    slots: 1021\n    backends:\n{lines}")
        since_ns = time.monotonic_ns()
        cluster.start_shuntd(text.replace("state: none", f"state: {directory}"))
        return since_ns
    yield begin
    cluster.forget()


def kept(directory):
    """What the file holds; None: there is none."""
    path = directory / "state.json"
    return json.loads(path.read_text()) if path.exists() else None


def wait_kept(directory, **wanted):
    wait_for(lambda: {**NOTHING, **wanted} == kept(directory), f"{wanted} kept")


def deadlines(file):
    return [d["deadline"] and datetime.datetime.fromisoformat(d["deadline"].replace("Z", "+00:00")).timestamp()
            for d in file["drains"]]


def backend(cluster, name):
    return cluster.shunt("backend", "show", name)[0]


def said(cluster, since_ns, what):
    return [e["why"] for e in cluster.events(since_ns, object="shuntd", what=what)]


def assert_serves(cluster):
    assert [a["error"] for a in cluster.ask(VIP4, 4)] == [None] * 4


@pytest.mark.parametrize("pinned", [False, True], ids=["alone", "pinned"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_drains_and_weights_outlive_shuntd(cluster, directory, start, end, pinned):
    pin = cluster.pin if pinned else None
    start(pin=pin)
    cluster.wait_states()
    cluster.shunt("backend", "drain", "gpu1")
    cluster.shunt("backend", "drain", "gpu2", "deadline", "10m")
    cluster.shunt("backend", "set", "gpu3", "weight", "300")
    wait_for(lambda: (kept(directory) or NOTHING)["weights"], "the weight kept")
    assert [e["evidence"]["uid"] for e in cluster.events(object="backend", what="draining")][-2:] == [0, 0]
    file = kept(directory)
    assert [d["backend"] for d in file["drains"]] == ["gpu1", "gpu2"] and file["weights"] == {"gpu3": 300}
    cluster.shuntd.send_signal(end)
    cluster.shuntd.wait(10)
    since_ns = start(pin=pin)
    cluster.wait_states(gpu1="draining", gpu2="draining", gpu3="up", gpu4="up")
    for name in ("gpu1", "gpu2"):
        assert [e["what"] for e in cluster.events(since_ns, object="backend", name=name) if e["what"] in ("up", "undrained")] == []
        assert backend(cluster, name)["draining"] == "drained"
    assert (backend(cluster, "gpu3")["weight"], backend(cluster, "gpu3")["configured_weight"]) == (300, 100)
    owns = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
    assert owns["gpu3"] > 2 * owns["gpu4"]
    assert kept(directory) == file
    cluster.shunt("backend", "set", "gpu4", "weight", "50")
    wait_for(lambda: kept(directory)["weights"] == {"gpu3": 300, "gpu4": 50}, "another weight kept")
    assert deadlines(file)[0] is deadlines(kept(directory))[0] is None
    assert abs(deadlines(file)[1] - deadlines(kept(directory))[1]) <= 1  # to the second
    cluster.shunt("backend", "set", "gpu4", "weight", "default")
    cluster.shunt("backend", "undrain", "gpu1")
    cluster.shunt("backend", "undrain", "gpu2")
    cluster.shunt("backend", "set", "gpu3", "weight", "default")
    wait_kept(directory)
    cluster.wait_states()


def test_who_is_no_longer_configured_is_forgotten_at_the_next_write(cluster, directory, start):
    start()
    cluster.shunt("backend", "drain", "gpu4")
    cluster.shunt("backend", "set", "gpu4", "weight", "7")
    wait_for(lambda: (kept(directory) or NOTHING)["weights"], "the weight kept")
    start("gpu1", "gpu2")
    assert kept(directory)["weights"] == {"gpu4": 7}
    cluster.shunt("backend", "set", "gpu1", "weight", "8")
    wait_kept(directory, weights={"gpu1": 8})


BAD = {
    "cut off": '{"version": 1, "drains": [], "wei',
    "garbage": "\x00\x01\x02",
    "empty": "",
    "of the future": '{"version": 2, "drains": [], "weights": {}, "more": []}',
    "of other types": '{"version": 1, "drains": {}, "weights": []}',
    "not to be read": json.dumps(NOTHING),
    "a directory": None,
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_bad_is_put_aside_and_another_begun(cluster, directory, start, what):
    directory.mkdir(mode=0o750)
    path, aside, text = directory / "state.json", directory / "state.json.bad", BAD[what]
    path.mkdir() if text is None else path.write_text(text)
    if what == "not to be read":
        path.chmod(0)
    since_ns = start()
    why = said(cluster, since_ns, "state not read")
    assert len(why) == 1 and str(path) in why[0], why
    cluster.wait_states()
    assert_serves(cluster)
    assert not path.exists() and (aside.is_dir() if text is None else aside.read_text() == text)
    cluster.shunt("backend", "set", "gpu1", "weight", "7")
    wait_kept(directory, weights={"gpu1": 7})
    assert said(cluster, start(), "state not read") == []
    assert backend(cluster, "gpu1")["weight"] == 7


def test_a_directory_that_is_not_there_is_made(cluster, directory, start):
    start()
    assert directory.stat().st_mode & 0o7777 == 0o750
    assert kept(directory) is None


def test_without_a_directory_shuntd_serves_and_says_so(cluster, directory, start):
    directory.write_text("a file")
    since_ns = start()
    cluster.wait_states()
    assert [str(directory) in why for why in said(cluster, since_ns, "state not kept")] == [True]
    cluster.shunt("backend", "set", "gpu1", "weight", "7")
    assert backend(cluster, "gpu1")["weight"] == 7
    assert_serves(cluster)
    assert directory.read_text() == "a file"


@contextlib.contextmanager
def small_disk(cluster, directory):
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0750", "small", directory)
    try:
        yield
    finally:
        cluster.stop_shuntd()
        run("umount", directory)


@pytest.mark.parametrize("what", ["full", "not to be written"])
def test_a_disk_that_takes_nothing_loses_no_good_file_and_has_the_rest_later(cluster, directory, start, what):
    with small_disk(cluster, directory):
        start()
        cluster.shunt("backend", "set", "gpu1", "weight", "7")
        wait_kept(directory, weights={"gpu1": 7})
        since_ns = time.monotonic_ns()
        directory.chmod(0o750 if what == "full" else 0o550)
        if what == "full":
            with contextlib.suppress(OSError), open(directory / "filler", "wb", buffering=0) as f:
                while f.write(b"x" * 4096):
                    pass
        cluster.shunt("backend", "set", "gpu2", "weight", "8")
        wait_for(lambda: said(cluster, since_ns, "state not kept"), "the event")
        assert kept(directory) == {**NOTHING, "weights": {"gpu1": 7}}
        assert not [p.name for p in directory.iterdir() if p.name.startswith("state.json.")]
        cluster.wait_states()
        assert_serves(cluster)
        assert backend(cluster, "gpu2")["weight"] == 8
        directory.chmod(0o750)
        (directory / "filler").unlink(missing_ok=True)
        wait_kept(directory, weights={"gpu1": 7, "gpu2": 8})
        wait_for(lambda: said(cluster, since_ns, "state kept again"), "the end of it")
        assert len(said(cluster, since_ns, "state not kept")) == 1


def test_what_is_pinned_outweighs_a_file_that_could_not_follow(cluster, directory, start):
    with small_disk(cluster, directory):
        start(pin=cluster.pin)
        cluster.wait_states()
        cluster.shunt("backend", "drain", "gpu1")
        cluster.shunt("backend", "set", "gpu2", "weight", "300")
        wait_for(lambda: (kept(directory) or NOTHING)["weights"], "both kept")
        stale = kept(directory)
        since_ns = time.monotonic_ns()
        with contextlib.suppress(OSError), open(directory / "filler", "wb", buffering=0) as f:
            while f.write(b"x" * 4096):
                pass
        cluster.shunt("backend", "undrain", "gpu1")
        cluster.shunt("backend", "set", "gpu2", "weight", "default")
        wait_for(lambda: said(cluster, since_ns, "state not kept"), "the event")
        cluster.kill_shuntd()
        assert kept(directory) == stale and len(stale["drains"]) == len(stale["weights"]) == 1
        since_ns = start(pin=cluster.pin)
        cluster.wait_states()
        assert cluster.events(since_ns, what="draining") == cluster.events(since_ns, what="state restored") == []
        assert backend(cluster, "gpu2")["weight"] == 100
        (directory / "filler").unlink()
        wait_kept(directory)


def test_what_may_only_be_read_is_heeded_and_not_changed(cluster, directory, start):
    good = {**NOTHING, "weights": {"gpu1": 7}}
    with small_disk(cluster, directory):
        (directory / "state.json").write_text(json.dumps(good))
        run("mount", "-o", "remount,ro", directory)
        since_ns = start()
        assert backend(cluster, "gpu1")["weight"] == 7
        assert ["Read-only" in why for why in said(cluster, since_ns, "state not kept")] == [True]
        cluster.shunt("backend", "set", "gpu2", "weight", "8")
        cluster.wait_states()
        assert_serves(cluster)
        assert kept(directory) == good


@contextlib.contextmanager
def tampered(cluster, inject):
    """While strace does this to the system calls of shuntd's threads."""
    log = cluster.directory / "strace.log"
    tracer = subprocess.Popen(["strace", "-f", "-o", log, "-p", str(cluster.shuntd.pid), "-e", f"inject={inject}"],
                              stderr=subprocess.PIPE)
    tracer.stderr.readline()  # "Process N attached"
    try:
        yield log
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()


@pytest.mark.parametrize("where", ["fchmod", "fsync", "rename"])
def test_shuntd_killed_while_it_writes_leaves_a_whole_file(cluster, directory, start, where):
    start()
    cluster.shunt("backend", "set", "gpu1", "weight", "7")
    wait_kept(directory, weights={"gpu1": 7})
    path = directory / "state.json"
    with tampered(cluster, f"{where}:signal=SIGKILL"):
        cluster.shunt_text("backend", "set", "gpu2", "weight", "8", check=False)
        cluster.shuntd.wait(10)
    assert json.loads(path.read_text())["weights"] in ({"gpu1": 7}, {"gpu1": 7, "gpu2": 8})
    since_ns = start()
    assert said(cluster, since_ns, "state not read") == []
    assert backend(cluster, "gpu1")["weight"] == 7


def test_a_disk_that_takes_long_delays_no_answer(cluster, directory, start):
    start()
    cluster.wait_states()
    with tampered(cluster, "fsync:delay_enter=2000000:when=1"):
        cluster.shunt("backend", "set", "gpu1", "weight", "7")
        wait_for(lambda: list(directory.glob("state.json.*")), "the write begun")
        cluster.shunt("backend", "set", "gpu2", "weight", "8")
        cluster.shunt("stats", "show")
        assert_serves(cluster)
        assert kept(directory) is None  # all that while it was not written yet
        wait_kept(directory, weights={"gpu1": 7, "gpu2": 8})


def test_a_weight_holds_against_the_configured_one_until_it_is_taken_back(cluster, directory, start):
    start()
    cluster.wait_states()
    load = cluster.start_load(100)
    wait_for(lambda: len([b for b in cluster.shunt("backend", "show") if b["live"]]) == 4, "streams on all")
    file = cluster.directory / "shunt.yaml"
    before = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
    since_ns = time.monotonic_ns()
    assert cluster.shunt("backend", "set", "gpu1", "weight", "300")["text"] == "gpu1: weight 300, configured 100"
    wait_for(lambda: cluster.events(since_ns, object="pool", what="flows moved"), "the flows led over")
    heavy = {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")}
    assert heavy["gpu1"] > 1.8 * before["gpu1"]
    assert [e["evidence"] for e in cluster.events(since_ns, what="weight set")] == \
        [{"weight": 300, "before": 100, "configured": 100, "uid": 0}]
    assert cluster.shunt("config", "reload")["changes"] == []
    file.write_text(file.read_text().replace("name: gpu1,", "name: gpu1, weight: 200,"))
    sentence = "backend gpu1: configured weight 100 becomes 200, 300 by command stays"
    assert cluster.shunt("config", "diff")["changes"] == cluster.shunt("config", "reload")["changes"] == [sentence]
    assert (backend(cluster, "gpu1")["weight"], backend(cluster, "gpu1")["configured_weight"]) == (300, 200)
    assert {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")} == heavy
    assert cluster.shunt("backend", "set", "gpu1", "weight", "default")["weight"] == 200
    wait_for(lambda: {s["backend"]: s["owner"] for s in cluster.shunt("slot", "show")} != heavy, "the configured weight")
    records = cluster.load_end(load)
    assert records and [r for r in records if r["error"]] == []


@pytest.mark.parametrize("weight", ["0", "65536", "1.5", "many", ""])
def test_a_weight_that_is_none_is_misuse(cluster, directory, start, weight):
    start()
    done = subprocess.run([str(a) for a in cluster.shunt_argv("backend", "set", "gpu1", "weight", weight)], capture_output=True)
    assert done.returncode == 2 and b"1 to 65535" in done.stderr
