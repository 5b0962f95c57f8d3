# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The command line: what it prints, to people and to programs, what it says when it can't, and how it ends."""
import collections
import grp
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest

from conftest import BUILD, ROOT
from topology import VIP4, VIP6, wait_for

NOBODY = 65534
DESCRIPTION = json.loads(subprocess.run([BUILD / "shunt", "-j", "help"], stdout=subprocess.PIPE, check=True).stdout)
SHOWS = [[o["name"], "show"] for o in DESCRIPTION["objects"] if any(c["name"] == "show" for c in o["commands"])]


def shunt(*argv, **kw):
    return subprocess.run([BUILD / "shunt", *map(str, argv)], capture_output=True, text=True, timeout=60, **kw)


@pytest.fixture
def place():
    """A directory that anybody may enter."""
    path = tempfile.mkdtemp(prefix=f"shunt-control-{os.getpid()}-", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def pretender(place):
    """Stands in for the daemon: takes one request and answers with these bytes."""
    listener = socket.socket(socket.AF_UNIX)
    threads = []

    def start(answer=b""):
        listener.bind(f"{place}/shuntd.sock")
        listener.listen()

        def run():
            client, _ = listener.accept()
            client.makefile().readline()
            client.sendall(answer)
            client.close()
        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()
        return f"{place}/shuntd.sock"
    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


@pytest.fixture
def scripted(place):
    """Stands in for the daemon: answers every request as a function says, {"result"} or {"error"}; keeps the requests."""
    listener = socket.socket(socket.AF_UNIX)
    requests = []

    def start(answer):
        listener.bind(f"{place}/shuntd.sock")
        listener.listen()

        def run():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                request = json.loads(client.makefile().readline())
                requests.append(request)
                client.sendall(json.dumps(answer(request)).encode() + b"\n")
                client.close()
        threading.Thread(target=run, daemon=True).start()
        return f"{place}/shuntd.sock", requests
    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# ---- without a daemon ----

@pytest.mark.parametrize("argv, words", [
    (["cow"], "'cow'"), (["s"], "'slot' or 'stats'"), (["backend", "milk"], "'milk'"), (["backend", "show", "a", "b"], "usage"),
    (["flow", "where"], "usage: shunt flow where SOURCE:PORT VIP"), (["--what"], "'--what'"), (["-x", "vip"], "'-x'"),
    (["vip", "-s"], "'-s' needs a value"), (["slot", "show", "gpus", "x"], "'x'"), (["event", "show", "from", "-"], "'from' needs a whole number, not '-'"),
    (["backend", "drain"], "usage: shunt backend drain NAME [wait] [deadline TIME]"),
    (["backend", "drain", "gpu1", "--deadline", "10"], "such as 10m, not '10'"),
    (["backend", "drain", "gpu1", "deadline", "m"], "not 'm'"), (["backend", "drain", "gpu1", "wait", "wait"], "'wait' is there twice"),
    (["backend", "drain", "--deadline", "10m"], "usage"), (["backend", "drain", "gpu1", "--deadline"], "such as 10m"),
    (["backend", "drain", "gpu1", "milk"], "there is no 'milk' here, but: wait, deadline"),
    (["vip", "show", "--wait"], "vip show has no option '--wait'"), (["flow", "reset"], "usage: shunt flow reset FILTER ... | all"),
    (["flow", "show", "vip"], "'vip' needs a value"), (["flow", "show", "limit", "many"], "'many'"),
    (["flow", "show", "--wait=1"], "'--wait=1'"),
    (["backend", "show", b"\xff"], "UTF-8")])
def test_misuse_ends_with_2_and_a_sentence_on_stderr_or_in_json(argv, words):
    plain = subprocess.run([BUILD / "shunt", *argv], capture_output=True, timeout=60)
    assert (plain.returncode, plain.stdout) == (2, b"")
    assert words in plain.stderr.decode() and plain.stderr.startswith(b"shunt: ") and plain.stderr.count(b"\n") == 1
    as_json = subprocess.run([BUILD / "shunt", "-j", *argv], capture_output=True, timeout=60)
    assert (as_json.returncode, as_json.stdout) == (2, b"")
    assert "shunt: " + json.loads(as_json.stderr)["error"] == plain.stderr.decode().rstrip()


def test_no_arguments_are_misuse_too():
    assert shunt().returncode == 2 and "usage" in shunt().stdout


def test_absent_daemon_is_named_by_its_socket(place):
    path = f"{place}/shuntd.sock"
    absent = shunt("-s", path, "vip", "show")
    assert absent.returncode == 1 and "not running" in absent.stderr and path in absent.stderr
    assert shunt("vip", "show", env={"SHUNT_SOCKET": path}).stderr == absent.stderr
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    stale = shunt("-j", "-s", path, "vip", "show")
    assert (stale.returncode, stale.stdout) == (1, "")
    assert "nobody answers" in json.loads(stale.stderr)["error"]
    assert shunt("-s", "x" * 200, "vip", "show").returncode == 2


def test_who_may_not_connect_is_told_the_group_that_may(pretender, for_all):
    path = pretender(b"")
    os.chown(path, 0, grp.getgrnam("daemon").gr_gid)
    os.chmod(path, 0o660)
    ask = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", for_all(BUILD / "shunt"), "-s", path, "vip", "show"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"shunt: no permission for {path}: it is for root and group daemon\n"
    assert shunt("-s", path, "vip", "show").returncode == 1  # and so the pretender ends


@pytest.mark.parametrize("answer, words", [
    (b"", "closed the connection"), (b"what?\n", "makes no sense"), (b"[1]\n", "makes no sense"), (b"{}\n", "makes no sense"),
    (b'{"error": "the cow is not milked", "code": 1}\n', "the cow is not milked"),
    (b'{"error": "no code"}\n', "no code")])
def test_strange_answers_end_with_1_and_a_sentence(pretender, answer, words):
    done = shunt("-s", pretender(answer), "vip", "show")
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_names_cannot_steer_a_terminal(pretender):
    answer = json.dumps({"result": [{"name": "\x1b[2J\x07red\n"}]}).encode() + b"\n"
    done = shunt("-s", pretender(answer), "vip", "show")
    assert done.returncode == 0
    assert "?[2J?red?" in done.stdout and "\x1b" not in done.stdout


def test_output_that_cannot_be_written_is_a_failure():
    with open("/dev/full", "w") as full:
        done = subprocess.run([BUILD / "shunt", "help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and "No space left" in done.stderr


def test_config_check_names_the_place_of_what_is_wrong(place):
    good = shunt("-j", "config", "check", ROOT / "tools/examples/shunt.yaml")
    assert good.returncode == 0 and json.loads(good.stdout)["backends"] > 0
    path = f"{place}/bad.yaml"
    with open(path, "w") as f:
        f.write("interfaces: [eth0]\nsede: 1\n")
    bad = shunt("config", "check", path)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith(f"{path}:2:1: ") and "sede" in bad.stderr and bad.stderr.count("\n") == 1
    as_json = json.loads(shunt("-j", "config", "check", path).stderr)
    assert (as_json["file"], as_json["line"], as_json["column"]) == (path, 2, 1)
    missing = shunt("config", "check", f"{place}/none.yaml")
    assert missing.returncode == 1 and "No such file" in missing.stderr
    assert shunt("config", "check", place).returncode == 1


# ---- draining, against a script ----

def backend(**wanted):
    return {"name": "gpu1", "state": "draining", "live": 0, "draining": "drained", "deadline_us": None, "drained": False,
            "cut": None, "notes": [], "text": "gpu1: draining", **wanted}


def drain_script(*looks, **first):
    """The reply to drain, then what each look at the backend shows; the last for ever."""
    looks = list(looks)

    def answer(request):
        if request["command"] == "show":
            look = looks.pop(0) if len(looks) > 1 else looks[0]
            return {"result": look if isinstance(look, list) else [look]}
        return {"result": backend(**first)}
    return answer


@pytest.mark.parametrize("argv, args", [
    (["gpu1"], {}), (["gpu1", "deadline", "10m"], {"within_ns": 600 * 10**9}), (["gpu1", "--deadline", "10m"], {"within_ns": 600 * 10**9}),
    (["--deadline=1500us", "gpu1"], {"within_ns": 1500000}), (["gpu1", "dead", "2s"], {"within_ns": 2 * 10**9})], ids=str)
def test_drain_says_what_the_daemon_did(scripted, argv, args):
    path, requests = scripted(drain_script(live=12, text="gpu1: draining, 12 live flows"))
    done = shunt("-s", path, "backend", "drain", *argv)
    assert (done.returncode, done.stdout, done.stderr) == (0, "gpu1: draining, 12 live flows\n", "")
    assert requests == [{"object": "backend", "command": "drain", "args": {"name": "gpu1", **args}}]


@pytest.mark.parametrize("words", [["wait"], ["--wait"], ["deadline", "10m", "wait"], ["--wait", "--deadline", "10m"]], ids=" ".join)
def test_drain_waits_and_shows_how_many_are_left(scripted, words):
    path, requests = scripted(drain_script(backend(live=2), backend(live=1), backend(drained=True, cut=0), live=3))
    done = shunt("-s", path, "backend", "drain", "gpu1", *words)
    first, *between, last = done.stdout.splitlines()
    assert (done.returncode, first, last, done.stderr) == (0, "gpu1: 2 flows left", "gpu1: drained", "")
    assert set(between) <= {"gpu1: 1 flow left"}  # a line a second is enough for a log
    assert [r["command"] for r in requests] == ["drain", "show", "show", "show"]


def test_wait_is_for_the_configured_one_of_two_of_a_name(scripted):
    removed = backend(draining="removed", drained=True, cut=7)
    path, _ = scripted(drain_script([removed, backend(live=2)], [removed, backend(drained=True, cut=0)]))
    assert shunt("-s", path, "backend", "drain", "gpu1", "wait").stdout == "gpu1: 2 flows left\ngpu1: drained\n"


def test_drain_on_a_terminal_rewrites_one_line(scripted):
    path, _ = scripted(drain_script(backend(live=2, deadline_us=61 * 10**6), backend(live=1), backend(drained=True, cut=0)))
    master, slave = os.openpty()
    p = subprocess.Popen([BUILD / "shunt", "-s", path, "backend", "drain", "gpu1", "wait"], stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    with open(master, "rb", buffering=0) as terminal:
        try:
            while piece := terminal.read(4096):
                shown += piece
        except OSError:
            pass  # its other end is closed
    assert p.wait(10) == 0
    assert shown == (b"\rgpu1: 2 flows left, cut in 61 s\x1b[K\rgpu1: 1 flow left\x1b[K\r\ngpu1: drained\r\n")


@pytest.mark.parametrize("end, words", [
    (backend(drained=True, cut=3), "gpu1: 3 flows were cut at the deadline"),
    (backend(drained=True, cut=1), "gpu1: 1 flow was cut at the deadline"),
    (backend(state="up", draining=None), "gpu1 was put back into service meanwhile"),
    (backend(state="down", live=5), "gpu1 went down before its flows had ended")], ids=["cut", "cut-one", "undrained", "died"])
def test_wait_that_does_not_end_well_is_a_failure(scripted, end, words):
    path, _ = scripted(drain_script(backend(live=5), end))
    done = shunt("-s", path, "backend", "drain", "gpu1", "wait")
    assert (done.returncode, done.stdout, done.stderr) == (1, "gpu1: 5 flows left\n", f"shunt: {words}\n")
    as_json = shunt("-j", "-s", path, "backend", "drain", "gpu1", "wait")
    assert (as_json.returncode, as_json.stdout, json.loads(as_json.stderr)) == (1, "", {"error": words})


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_wait_leaves_the_drain_on_and_says_so(scripted, signo):
    path, requests = scripted(drain_script(backend(live=5)))
    p = subprocess.Popen([BUILD / "shunt", "-s", path, "backend", "drain", "gpu1", "wait"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "gpu1: 5 flows left\n"
    p.send_signal(signo)
    _, complaint = p.communicate(timeout=30)
    assert (p.returncode, complaint) == (-signo, "shunt: gpu1 goes on draining: 5 flows left\n")
    assert {r["command"] for r in requests} == {"drain", "show"}


def test_wait_that_loses_the_daemon_is_a_failure(scripted, place):
    def answer(request):
        if request["command"] == "drain":
            os.unlink(f"{place}/shuntd.sock")
            return {"result": backend(live=1)}
    path, _ = scripted(answer)
    done = shunt("-s", path, "backend", "drain", "gpu1", "wait")
    assert done.returncode == 1 and "not running" in done.stderr


def test_notes_go_to_stderr_and_to_json(scripted):
    notes = ["gpu1 was draining already", "warning: no backend of pool gpus takes new flows now"]
    path, _ = scripted(drain_script(notes=notes))
    done = shunt("-s", path, "backend", "drain", "gpu1")
    assert (done.returncode, done.stdout) == (0, "gpu1: draining\n")
    assert done.stderr == "".join(f"shunt: {note}\n" for note in notes)
    as_json = shunt("-j", "-s", path, "backend", "drain", "gpu1")
    assert (as_json.returncode, json.loads(as_json.stdout)["notes"], as_json.stderr) == (0, notes, "")


def test_nobody_waits_for_a_backend_that_is_down(scripted):
    path, requests = scripted(drain_script(state="down", text="gpu1: down, 0 live flows", notes=["gpu1 is down"]))
    done = shunt("-s", path, "backend", "drain", "gpu1", "wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "gpu1: down, 0 live flows\n", "shunt: gpu1 is down\n")
    assert len(requests) == 1


# ---- flows, against a script ----

def flow_script(n, page):
    """n flows on entries 0 to n - 1, and so many to a page; every third is on gpu2."""
    def answer(request):
        first = request["args"].get("from", 0)
        end = min(first + page, first + request["args"].get("limit", page), n)
        following = end if end < n else None
        if request["command"] == "show":
            return {"result": {"flows": [{"client": f"192.0.2.1:{i}", "detour": i == 0} for i in range(first, end)], "next": following}}
        names = ["gpu1" if i % 3 else "gpu2" for i in range(first, end)]
        return {"result": {"counts": [{"backend": name, "open": names.count(name), "closing": 1, "closed": 0, "detours": 2}
                                      for name in sorted(set(names))], "next": following}}
    return answer


def test_flow_show_puts_pages_together_and_says_how_many_more(scripted):
    path, requests = scripted(flow_script(25, 10))
    done = shunt("-j", "-s", path, "flow", "show", "vip", "chat", "detours")
    assert [f["client"] for f in json.loads(done.stdout)["flows"]] == [f"192.0.2.1:{i}" for i in range(25)]
    assert [r["args"] for r in requests] == [{"vip": "chat", "detours": True, "from": i, "limit": 1000 - i} for i in (0, 10, 20)]
    some = json.loads(shunt("-j", "-s", path, "flow", "show", "limit", "13").stdout)
    assert (len(some["flows"]), some["more"]) == (13, 25 + 6 - 13)  # the script counts a closing one more for each row
    plain = shunt("-s", path, "flow", "show", "limit", "13")
    assert plain.returncode == 0 and len(plain.stdout.splitlines()) == 14 and "yes" in plain.stdout.splitlines()[1]
    assert plain.stderr == "shunt: and 18 more: 'limit N' shows as many as you like\n"


def test_flow_count_adds_pages_up(scripted):
    path, requests = scripted(flow_script(25, 10))
    count = json.loads(shunt("-j", "-s", path, "flow", "count", "state", "open").stdout)
    assert count["counts"] == [{"backend": "gpu1", "open": 16, "closing": 3, "closed": 0, "detours": 6},
                               {"backend": "gpu2", "open": 9, "closing": 3, "closed": 0, "detours": 6}]
    assert count["total"] == {"open": 25, "closing": 6, "closed": 0, "detours": 12}
    assert all(r["args"]["state"] == "open" for r in requests)


def test_what_fails_between_pages_is_a_failure(scripted):
    def answer(request):
        if request["args"]["from"]:
            return {"error": "out of memory", "code": 1}
        return {"result": {"flows": [], "counts": [], "next": 5}}
    path, _ = scripted(answer)
    for command in ("show", "count"):
        done = shunt("-s", path, "flow", command)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "shunt: out of memory\n")


def test_flow_reset_and_reload_say_what_was_done(scripted):
    texts = {"reset": "3 flows reset", "reload": "backend gpu4 added to pool gpus\nVIP x removed\n"}
    path, requests = scripted(lambda request: {"result": {"text": texts[request["command"]]}})
    assert shunt("-s", path, "flow", "reset", "client", "192.0.2.0/24").stdout == "3 flows reset\n"
    assert shunt("-s", path, "flow", "reset", "all").stdout == "3 flows reset\n"
    assert shunt("-s", path, "config", "reload").stdout == texts["reload"]
    assert shunt("-s", path, "config", "reload", "--force").stdout == texts["reload"]
    assert [r["args"] for r in requests] == [{"client": "192.0.2.0/24"}, {"all": True}, {}, {"force": True}]


# ---- with one ----

@pytest.fixture
def running(cluster, shuntd):
    shuntd(cluster.config(interval="1ms"))
    return cluster


def test_every_show_is_a_table_for_people_and_json_for_programs(running):
    for argv in SHOWS:
        plain, line, pretty = (running.shunt_text(*options, *argv) for options in ((), ("-j",), ("-p",)))
        if json.loads(line) == []:
            assert (argv, plain, pretty) == (["peer", "show"], "", "[]\n")  # there is none
            continue
        assert plain and "null" not in plain and "{\"" not in plain, argv
        assert argv[0] in ("config", "event") or all(len(row) <= 100 for row in plain.splitlines()), plain
        assert line.count("\n") == 1 and pretty.count("\n") > 1 and json.loads(line).__class__ == json.loads(pretty).__class__


def test_live_view_shows_the_traffic_and_survives_a_restart(running, shuntd):
    """The rest of it is in tests/golden/test_top.py."""
    argv = [*running.shunt_argv("-j"), "top", "interval", "200ms"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as top:
        guard = threading.Timer(60, top.kill)  # a look that never comes ends the test
        guard.start()
        try:
            looks = map(json.loads, top.stdout)
            first = next(looks)
            assert {b["name"]: b["state"] for b in first["backends"]} == {b.name: "up" for b in running.backends}
            assert abs(sum(b["share_permille"] for b in first["backends"]) - 1000) < 0.001
            running.ask(VIP4, 8)
            busy = next(look for look in looks if look["total"]["new_flows_per_s"])
            assert {v["name"]: v["packets_per_s"] > 0 for v in busy["vips"]}["chat4"]
            running.stop_shuntd()
            assert next(look for look in looks if look["unanswered_since"])["backends"]
            shuntd(running.config(interval="1ms"))
            assert next(look for look in looks if not look["unanswered_since"])["backends"]
            assert next(look for look in looks if look["total"]["packets_per_s"] is not None)
        finally:
            guard.cancel()
            top.kill()


def test_words_may_be_cut_short(running):
    whole = running.shunt("slot", "show")
    assert whole == running.shunt("sl", "s") == running.shunt("sl") == running.shunt("slot", "list")
    assert [b["name"] for b in running.shunt("b", "sh", "gpu2")] == ["gpu2"]


def test_one_backend_is_shown_with_the_way_to_it(running):
    b = running.backends[1]
    shown, = running.shunt("backend", "show", b.name)
    assert (shown["address"], shown["mac"], shown["egress"], shown["local"]) == (b.ipv4, b.mac, "eth0", running.balancer.ipv4)
    assert b.mac in running.shunt_text("backend", "show", b.name)
    refused = shunt("-s", running.socket, "backend", "show", "gpu9")
    assert refused.returncode == 1 and refused.stderr == "shunt: there is no backend 'gpu9'\n"


def test_slot_show_and_flow_where_tell_the_same_story(running):
    where = running.shunt("flow", "where", "192.0.2.1:40000", "chat4")
    slot = running.shunt("slot", "show", "gpus", where["slot"])
    assert (slot["owner"], slot["heir"]) == (where["owner"], where["heir"])
    assert where["backend"] == slot["succession"][0] and where["why"] == "owner up"
    assert sorted(slot["succession"]) == sorted(b.name for b in running.backends)


def test_flow_where_follows_a_failover_and_leaves_no_trace(running):
    where = running.shunt("flow", "where", "192.0.2.1:40000", "chat4")
    running.plug.unplug(where["owner"])
    running.wait_states(**{where["owner"]: "down"})
    before = running.shunt("vip", "show"), running.shunt("backend", "show")
    after = running.shunt("flow", "where", "192.0.2.1:40000", "chat4")
    assert after["backend"] == where["heir"] and after["slot"] == where["slot"]
    assert after["why"] == f"owner {where['owner']} down (silent), heir"
    assert before == (running.shunt("vip", "show"), running.shunt("backend", "show"))


def test_flow_where_agrees_with_the_walk_on_hash_and_port(cluster, shuntd):
    """A VIP that hashes the source's network, and one that has every port, found by address and port."""
    vips = (f"  - {{name: net, address: {VIP4}, protocol: tcp, port: 80, pool: gpus, hash: source/24}}\n"
            f"  - {{name: every, address: '{VIP6}', protocol: tcp, port: any, pool: gpus}}")
    shuntd(cluster.config(interval="1ms", vips=vips))
    answered = cluster.ask(VIP4, 16)
    assert {a["backend"] for a in answered} == {cluster.where(1, "net")} and not any(a["error"] for a in answered)
    for port in (80, 8001):
        for a in cluster.ask(VIP6, 16, port):
            source = f"[{cluster.client.ipv6}]:{a['port']}"
            assert cluster.shunt("flow", "where", source, f"[{VIP6}]:{port}")["backend"] == a["backend"]


def test_event_monitor_streams_until_interrupted(running):
    monitors = {}
    for options in ((), ("-j",)):
        monitors[options] = subprocess.Popen([*running.shunt_argv(*options), "event", "monitor", "from", "1"],
                                             stdout=subprocess.PIPE, text=True)
    guard = threading.Timer(30, lambda: [m.kill() for m in monitors.values()])  # a line that never comes ends the test
    guard.start()
    kept = running.shunt("event", "show")
    lines = {options: list(itertools.islice(m.stdout, len(kept))) for options, m in monitors.items()}
    assert [json.loads(line) for line in lines["-j",]] == kept  # so both monitor now
    running.plug.unplug("gpu3")
    running.wait_states(gpu3="down")
    assert any("backend gpu3: down (silent: " in line for line in monitors[()].stdout)
    event = next(e for e in map(json.loads, monitors["-j",].stdout) if e["what"] == "down")
    assert (event["object"], event["name"], event["why"]) == ("backend", "gpu3", "silent")
    guard.cancel()
    for m in monitors.values():
        m.send_signal(signal.SIGINT)
        assert m.wait(10) in (-signal.SIGINT, 0)
        m.stdout.close()


def test_monitor_says_so_when_the_daemon_ends(running):
    m = subprocess.Popen([*running.shunt_argv(), "event", "monitor", "from", "1"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    m.stdout.readline()
    running.stop_shuntd()
    _, complaint = m.communicate(timeout=20)
    assert m.returncode == 1 and complaint == "shunt: shuntd closed the connection\n"
    assert not running.socket.exists()


def test_garbage_on_the_socket_leaves_the_daemon_serving(running):
    """The whole of it is in tests/unit/control_test.c; here it is the daemon's own loop that meets it."""
    clients = []
    for _ in range(100):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(running.socket))
        client.setblocking(False)
        try:
            client.send(os.urandom(30000) + b"\n" + b'{"object":"stats","command":"show"}\n' * 1000)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass  # the daemon does not wait for such clients either
        clients.append(client)
    assert running.shunt("stats", "show")["detector"] == "kernel"
    assert collections.Counter(running.states().values()) == {"up": 4}
    for client in clients:
        client.close()
    wait_for(lambda: running.shunt("vip", "show"), "an answer afterwards")


# ---- with one, and a connection ----

HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], 80), timeout=60)
print(s.getsockname()[1], flush=True)
try:
    sys.stdin.readline()
    s.close()
    print("closed")
except OSError as e:
    print(type(e).__name__)
"""
READ = HOLD.replace("sys.stdin.readline()", "s.recv(1)")


@pytest.fixture
def hold(running):
    """Opens a connection to a VIP from the client: (its process, its flow as `flow show` has it)."""
    processes = []

    def start(vip, script=HOLD):
        p = subprocess.Popen(running.client.enter("/usr/bin/python3", "-c", script, vip), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
        processes.append(p)
        client = f"[{running.client.ipv6}]" if ":" in vip else running.client.ipv4
        flow, = running.shunt("flow", "show", "client", f"{client}:{p.stdout.readline().strip()}")["flows"]
        return p, flow
    yield start
    for p in processes:
        if p.returncode is None:
            p.communicate("\n", timeout=60)


@pytest.mark.parametrize("vip, name", [(VIP4, "chat4"), (VIP6, "chat6")])
def test_connection_is_shown_counted_and_found(running, hold, vip, name):
    p, flow = hold(vip)
    assert (flow["vip"], flow["state"], flow["detour"], flow["owner"]) == (name, "open", False, flow["backend"])
    where = running.shunt("flow", "where", flow["client"], name)
    assert (where["backend"], where["why"], where["recorded"]["client"]) == (flow["backend"], "recorded: at its owner", flow["client"])
    address = flow["client"].rpartition(":")[0]
    for words in (["vip", name], ["backend", flow["backend"]], ["client", address.strip("[]")], ["client", flow["client"]]):
        clients = [f["client"] for f in running.shunt("flow", "show", *words, "state", "open")["flows"]]
        assert clients == [flow["client"]], words
    assert running.shunt("flow", "count", "state", "open")["counts"] == [
        {"backend": flow["backend"], "open": 1, "closing": 0, "closed": 0, "detours": 0}]
    assert running.shunt("backend", "show", flow["backend"])[0]["live"] == 1
    p.communicate("\n", timeout=60)
    wait_for(lambda: running.shunt("backend", "show", flow["backend"])[0]["live"] == 0, "the flow to end")
    assert running.shunt("flow", "show", "state", "open")["flows"] == []


def test_drain_waits_for_a_real_connection_and_others_go_elsewhere(running, hold):
    p, flow = hold(VIP4)
    wait = subprocess.Popen([*running.shunt_argv(), "backend", "drain", flow["backend"], "--wait"], stdout=subprocess.PIPE, text=True)
    assert wait.stdout.readline() == f"{flow['backend']}: 1 flow left\n"
    assert flow["backend"] not in {a["backend"] for a in running.ask(VIP4, 32)}
    assert wait.poll() is None
    p.communicate("\n", timeout=60)
    rest, _ = wait.communicate(timeout=60)
    assert wait.returncode == 0 and rest.endswith(f"{flow['backend']}: drained\n")
    assert running.shunt("flow", "show", "detours")["flows"]
    assert running.shunt("backend", "show", flow["backend"])[0]["detours"] > 0


def test_drain_cuts_at_its_deadline_and_says_so(running, hold):
    p, flow = hold(VIP4, READ)
    done = shunt("-s", running.socket, "backend", "drain", flow["backend"], "--wait", "--deadline", "200ms")
    assert (done.returncode, done.stderr) == (1, f"shunt: {flow['backend']}: 1 flow was cut at the deadline\n")
    assert p.communicate(timeout=60)[0] == "ConnectionResetError\n"


def test_flow_reset_ends_what_it_names_and_nothing_else(running, hold):
    (one, flow), (other, _) = hold(VIP4, READ), hold(VIP6)
    assert shunt("-s", running.socket, "flow", "reset", "client", flow["client"]).stdout == "1 flow reset\n"
    assert one.communicate(timeout=60)[0] == "ConnectionResetError\n"
    assert other.communicate("\n", timeout=60)[0] == "closed\n"


def test_last_backend_is_drained_with_a_warning(running, hold):
    done = [shunt("-s", running.socket, "backend", "drain", f"gpu{i}") for i in (1, 2, 3, 4)]
    assert [d.returncode for d in done] == [0] * 4 and [bool(d.stderr) for d in done] == [False] * 3 + [True]
    assert done[3].stderr == "shunt: warning: no backend of pool gpus takes new flows now\n"
    assert running.shunt("flow", "where", "192.0.2.1:40000", "chat4")["backend"] is None
    unknown = shunt("-s", running.socket, "backend", "drain", "gpu9")
    assert (unknown.returncode, unknown.stderr) == (1, "shunt: there is no backend 'gpu9'\n")
    again = shunt("-s", running.socket, "backend", "drain", "gpu1")
    assert again.returncode == 0 and "was draining already" in again.stderr
    assert running.shunt("backend", "show", "gpu1")[0]["deadline_us"] is None


def test_second_drain_gives_another_deadline(running, hold):
    _, flow = hold(VIP4)
    for minutes in (10, 1):
        shunt("-s", running.socket, "backend", "drain", flow["backend"], "deadline", f"{minutes}m")
        shown, = running.shunt("backend", "show", flow["backend"])
        assert (minutes - 1) * 60 * 10**6 < shown["deadline_us"] <= minutes * 60 * 10**6 and shown["live"] == 1


def test_reload_tells_what_changed_and_a_wrong_file_changes_nothing(running):
    path = running.directory / "shunt.yaml"
    text = path.read_text()
    assert running.shunt_text("config", "reload") == "no change\n"
    path.write_text(text.replace("multiplier: 3", "multiplier: 4"))
    assert "multiplier" in running.shunt_text("config", "reload")
    before = running.shunt("config", "show")
    path.write_text("sede: 1\n")
    wrong = shunt("-s", running.socket, "config", "reload")
    assert wrong.returncode == 1 and f"{path}:1:1: unknown key 'sede'" in wrong.stderr
    assert running.shunt("config", "show") == before
