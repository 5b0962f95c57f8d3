# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The command line against hostile input: batches, daemons that hang or babble, streams that are closed, many backends."""
import contextlib
import json
import os
import pathlib
import resource
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests/lib"))
from script import Script  # noqa: E402

SANITIZED = BUILD / "san/shunt"


def shunt(*argv, program=SANITIZED, **kw):
    return subprocess.run([program, *map(str, argv)], capture_output=True, timeout=60, **{"text": True, **kw})


@pytest.fixture
def echo(tmp_path):
    """A daemon whose answers are what it was asked."""
    with Script(tmp_path / "shuntd.sock", lambda r: {"result": {"text": f"{r['command']} {r.get('args')}\n", "asked": r}}) as script:
        yield script


# ---- batches ----

def batch(echo, text, *options, **kw):
    return shunt("-s", echo.path, *options, "-b", "-", input=text, **kw)


@pytest.mark.parametrize("line, args", [
    ("backend undrain gpu1", {"name": "gpu1"}), ("  backend\tundrain   gpu1  ", {"name": "gpu1"}), ("b u gpu1", {"name": "gpu1"}),
    ("backend undrain 'gpu 1'", {"name": "gpu 1"}), ('backend undrain "gpu 1"', {"name": "gpu 1"}),
    ("backend undrain gpu\\ 1", {"name": "gpu 1"}), ('backend undrain "a\\"b\\\\c"', {"name": 'a"b\\c'}),
    ("backend undrain 'a\\b'", {"name": "a\\b"}), ("backend undrain a'b'\"c\"d", {"name": "abcd"}),
    ("backend undrain ''", {"name": ""}), ("backend undrain gpu1 # why", {"name": "gpu1"}),
    ("backend undrain gpu#1", {"name": "gpu#1"}), ("backend undrain '#1'", {"name": "#1"}), ("backend undrain \\#1", {"name": "#1"}),
    ("backend \\\n  undrain \\\n gpu1", {"name": "gpu1"}), ("backend undrain gpu1\\\\", {"name": "gpu1\\"}),
    ("backend undrain gpu1\r", {"name": "gpu1"}), ("backend undrain -- -x", {"name": "-x"}),
    ("backend undrain gpü", {"name": "gpü"})], ids=repr)
def test_words_of_a_batch_are_quoted_as_in_a_shell(echo, line, args):
    done = batch(echo, f"# first\n\n{line}\n   # last")
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["args"] for r in echo.requests] == [args]


def test_options_of_commands_are_taken_in_a_batch(echo):
    assert batch(echo, "flow count --state open\nconfig reload --force\n").returncode in (0, 1)
    assert echo.requests[0]["args"]["state"] == "open"


@pytest.mark.parametrize("line, code, words", [
    ("cow", 2, "there is no object 'cow'"), ("backend drain", 2, "usage: shunt backend drain"), ("vip 'show", 2, "quotation mark"),
    ("-j vip show", 2, "for the batch as a whole"), ("vip show -b x", 2, "for the batch as a whole"),
    ("--version", 2, "for the batch as a whole"),
    ("config check /nonexistent", 1, "cannot read /nonexistent"), ("vip show \xff", 2, "UTF-8"), ("vip show a\0b", 1, "cannot be read")],
    ids=repr)
def test_batch_ends_with_the_first_command_that_fails(echo, tmp_path, line, code, words):
    path = tmp_path / "batch"
    path.write_bytes(b"backend undrain gpu1\n# a comment\n" + line.encode("latin1") + b"\nbackend undrain gpu2\n")
    done = shunt("-s", echo.path, "-b", path)
    assert (done.returncode, [r["args"]["name"] for r in echo.requests]) == (code, ["gpu1"])
    assert done.stderr.startswith(f"{path}:3: ") and words in done.stderr and done.stderr.count("\n") == 1
    as_json = shunt("-s", echo.path, "-j", "-b", path)
    assert as_json.returncode == code and len(json.loads(as_json.stdout)) == 1
    complaint = json.loads(as_json.stderr)
    assert (complaint["batch"], complaint["batch_line"]) == (str(path), 3) and words in complaint["error"]


def test_results_of_a_batch_are_one_array(echo):
    for options in ("-j", "-p"):
        done = batch(echo, "config show\nbackend undrain a\nhelp\nconfig show", options)
        assert done.returncode == 0
        results = json.loads(done.stdout)
        assert [r["asked"]["object"] if "asked" in r else "help" for r in results] == ["config", "backend", "help", "config"]
    assert json.loads(batch(echo, "", "-j").stdout) == [] and batch(echo, "").stdout == ""


def test_wrong_file_in_a_batch_is_told_with_both_places(echo, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("interfaces: [eth0]\nsede: 1\n")
    assert batch(echo, f"config check {bad}").stderr.startswith(f"-:1: {bad}:2:1: ")
    complaint = json.loads(batch(echo, f"config check {bad}", "-j").stderr)
    assert (complaint["file"], complaint["line"], complaint["batch"], complaint["batch_line"]) == (str(bad), 2, "-", 1)


def test_batch_that_cannot_be_read_is_refused(tmp_path):
    missing = shunt("-b", tmp_path / "none")
    assert missing.returncode == 1 and "No such file" in missing.stderr
    directory = shunt("-b", tmp_path)
    assert directory.returncode == 1 and "directory" in directory.stderr
    both = shunt("-b", "-", "vip", "show", input="")
    assert both.returncode == 2 and "in the file" in both.stderr


def test_long_lines_and_many_of_them_are_read(echo):
    name = "x" * 50000
    assert batch(echo, f"backend undrain {name}\n").returncode == 0
    assert echo.requests[0]["args"]["name"] == name
    assert batch(echo, "config check /dev/null # wrong\n" * 3).stderr.count("\n") == 1
    done = batch(echo, "help vip show\n" * 5000, program=BUILD / "shunt")
    assert done.returncode == 0 and done.stdout.count("shunt vip show") == 5000


# ---- words ----

def test_daemon_that_is_busy_is_asked_again_until_it_is_not(tmp_path):
    answers = iter([{"error": "flows are being led over", "code": 3}] * 2 + [{"result": {"changes": [], "text": "no change\n"}}])
    with Script(tmp_path / "shuntd.sock", lambda r: next(answers)) as script:
        done = shunt("-s", script.path, "config", "reload", "force")
        assert (done.returncode, done.stdout, done.stderr) == (0, "no change\n", "")
        assert [r["args"] for r in script.requests] == [{"force": True}] * 3


@pytest.mark.parametrize("argv, words", [
    (["bakend"], "did you mean 'backend'"), (["backend", "shwo"], "did you mean 'show'"),
    (["flow", "show", "sate", "open"], "did you mean 'state'"), (["flow", "show", "--sate", "open"], "did you mean '--state'"),
    (["elephant"], "see 'shunt help'"), (["backend", "elephant"], "see 'shunt backend help'")], ids=" ".join)
def test_unknown_word_is_answered_with_the_nearest(argv, words):
    done = shunt(*argv, "-s", "/nonexistent")
    assert words in done.stderr, done.stderr


# ---- streams ----

@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_no_socket_takes_the_place_of_a_closed_stream(tmp_path, closed):
    """Else an event would be printed to the daemon."""
    received = []

    def tell(client):
        client.sendall(b'{"result": {"time": "now", "text": "event"}}\n')
        client.shutdown(socket.SHUT_WR)
        received.append(client.recv(4096))
    with Script(tmp_path / "shuntd.sock", lambda r: tell) as script:
        done = subprocess.run([SANITIZED, "-s", script.path, "event", "monitor"], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=60, text=True, preexec_fn=lambda: [os.close(fd) for fd in closed])
    assert received == [b""] and done.returncode == 1
    if closed == (1,):
        assert done.stderr == "shunt: cannot write the output: Bad file descriptor\n"


def test_reader_that_goes_away_is_a_failure_where_it_is_no_signal(tmp_path):
    rows = [{"name": f"vip{i}"} for i in range(5000)]
    with Script(tmp_path / "shuntd.sock", lambda r: {"result": rows}) as script:
        with subprocess.Popen([SANITIZED, "-s", script.path, "vip", "show"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              restore_signals=False) as p:
            p.stdout.close()
            assert (p.stderr.read(), p.wait(60)) == (b"shunt: cannot write the output: Broken pipe\n", 1)


# ---- daemons ----

@pytest.mark.parametrize("answer, words", [
    (b"\xff\xfe\n", "makes no sense"), (b"[" * 100000 + b"\n", "makes no sense"), (b'{"result": "\xff"}\n', "makes no sense"),
    (b'{"result": [1, "a", null, [], {"name": 7}]}', "closed the connection"), (b'{"error": "no", "code": 77}\n', "no"),
    (b'{"error": 5}\n', "makes no sense")], ids=lambda x: repr(x)[:30])
def test_babbling_daemon_is_an_error(tmp_path, answer, words):
    with Script(tmp_path / "shuntd.sock", lambda r: answer) as script:
        done = shunt("-s", script.path, "vip", "show")
        assert (done.returncode, done.stdout) == (1, "") and words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("result", [[1, "a", None, [], {"name": 7}], {}, [], "text", 5, [{"name": None, "since_ns": -5}], None, {"flows": 5},
                                    [{"name": "x" * 10000, "since_ns": 1e300, "check": "no object"}]], ids=lambda x: repr(x)[:30])
def test_results_of_another_shape_are_shown_as_far_as_they_go(tmp_path, result):
    with Script(tmp_path / "shuntd.sock", lambda r: {"result": result}) as script:
        for words in (["vip", "show"], ["vip", "show", "x"], ["probe", "show"], ["event", "show"], ["config", "show"], ["stats", "show"],
                      ["flow", "count"], ["flow", "show"], ["backend", "undrain", "x"], ["top", "-n", "1", "interval", "100ms"]):
            done = shunt("-s", script.path, *words)
            assert done.returncode in (0, 1) and "Sanitizer" not in done.stderr, (words, done.stderr)
            assert shunt("--complete", "-s", script.path, *words, "").returncode == 0


def test_answer_without_end_is_given_up(tmp_path):
    """Bounded memory: the process may not have more than this."""
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
    with Script(tmp_path / "shuntd.sock", lambda r: b"x" * (300 << 20)) as script:
        done = shunt("-s", script.path, "vip", "show", program=BUILD / "shunt", preexec_fn=limit)
    assert done.returncode == 1 and "has no end" in done.stderr


def test_hanging_daemon_is_waited_for_so_long_only(tmp_path):
    """However often it sends a byte."""
    def drip(client):
        with contextlib.suppress(OSError):
            while True:
                client.sendall(b" ")
                time.sleep(1)
    with Script(tmp_path / "shuntd.sock", lambda r: drip) as script:
        done = shunt("-s", script.path, "vip", "show")
        assert done.returncode == 1
        assert done.stderr == f"shunt: shuntd does not answer on {script.path}: for 10 s nothing whole came\n"


@pytest.mark.parametrize("path, words", [("/dev/null", "nobody answers"), ("/", "nobody answers"), ("/dev/null/x", "Not a directory"),
                                         ("", "not running"), ("x" * 200, "longer than")])
def test_wrong_socket_is_named(path, words):
    done = shunt("vip", "show", env={"SHUNT_SOCKET": path})
    assert done.returncode in (1, 2) and words in done.stderr and (path or "/run/shunt/shuntd.sock")[:100] in done.stderr or words == "longer than"


def test_ten_thousand_backends_are_listed(tmp_path):
    rows = [{"name": f"gpu{i}", "pool": "gpus", "address": f"10.0.{i // 250}.{i % 250}", "state": "up", "verdict": "answering",
             "since_ns": 1, "weight": 100, "live": i, "packets": i, "bytes": i, "new_flows": i} for i in range(10000)]
    with Script(tmp_path / "shuntd.sock", lambda r: {"result": rows}) as script:
        lines = shunt("-s", script.path, "backend", "show", program=BUILD / "shunt").stdout.splitlines()
        assert len(lines) == 10001 and len(set(map(len, lines))) == 1
        assert shunt("--complete", "-s", script.path, "backend", "drain", "", program=BUILD / "shunt").stdout.count("\n") in (0, 10000)
