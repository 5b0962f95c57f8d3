# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The live view: what it shows of a daemon that a script stands in for, on a terminal and elsewhere, and how it ends."""
import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests/lib"))
from script import Script  # noqa: E402

SECONDS = 20  # that a screen or a line may take
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?25h\x1b[?1049l"


class Balancer:
    """Counters that grow whenever they are looked at: each packet of 100 bytes, each tenth of a new flow."""

    def __init__(self, **states):
        self.states = states or {"gpu1": "up", "gpu2": "up"}
        self.looks = 0
        self.events = [{"number": n, "time": f"2026-11-21T07:00:0{n}.000000Z", "text": f"event {n}"} for n in (1, 2)]
        self.ill = None

    def traffic(self, packets):
        return {"packets": packets, "bytes": 100 * packets, "new_flows": packets // 10}

    def answer(self, request):
        self.looks += request["object"] == "backend"
        packets = 1000 * self.looks
        return {"result": {
            "backend": [{"name": name, "id": i, "pool": "gpus", "state": state, "verdict": "why", "since_ns": 1, "live": i + 1,
                         **self.traffic(packets)} for i, (name, state) in enumerate(self.states.items())],
            "vip": [{"name": "chat4", "id": 0, "address": "203.0.113.10", "protocol": "tcp", "port": 80, **self.traffic(packets)}],
            "probe": [{"backend": name, "rtt_p50_us": 7, "window_loss_permille": 12} for name in self.states],
            "slot": [{"pool": "gpus", "backend": name, "owner": 65, "heir": 1, "slots": 260} for name in self.states],
            "stats": {"uptime_s": 5, "health": "ill" if self.ill else "well", "ill_because": self.ill},
            "event": [e for e in self.events if e["number"] >= request.get("args", {}).get("from", 0)],
        }[request["object"]]}


@pytest.fixture
def balancer(tmp_path):
    """The script's balancer, and where it answers."""
    b = Balancer()
    b.socket = tmp_path / "shuntd.sock"
    with Script(b.socket, b.answer) as b.script:
        yield b


def top(b, *words, interval="100ms", **kw):
    return subprocess.run([BUILD / "shunt", "-s", b.socket, "top", "interval", interval, *words], capture_output=True, text=True,
                          timeout=SECONDS, **kw)


@contextlib.contextmanager
def stream(b, *words):
    """Its looks, as they come."""
    argv = [BUILD / "shunt", "-s", b.socket, "-j", "top", "interval", "100ms", *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as p:
        yield map(json.loads, p.stdout)
        p.stdout.close()


class Screen:
    """It on a terminal."""

    def __init__(self, b, rows=30, columns=100, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(BUILD / "shunt", ["shunt", "-s", str(b.socket), "top", "interval", "100ms"],
                      {"TERM": "xterm", **(env or {})})
        self.seen, self.status = b"", None
        self.before = termios.tcgetattr(self.fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def more(self):
        """Take in what it writes; whether it lives."""
        if not select.select([self.fd], [], [], SECONDS)[0]:
            pytest.fail(f"nothing more is shown after {self.seen[-2000:]!r}")
        try:
            piece = os.read(self.fd, 65536)
        except OSError:
            piece = b""
        self.seen += piece
        return bool(piece)

    def frame(self):
        """The newest whole picture, its lines without colours."""
        frames = [f for f in self.seen.split(b"\x1b[H")[1:] if f.endswith(b"\x1b[J")]
        text = re.sub(rb"\x1b\[[0-9;]*[mKJ]", b"", frames[-1]) if frames else b""
        return text.decode().split("\r\n")

    def until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline and self.more(), self.seen[-2000:]

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self):
        """Until it has ended: the exit status, that of a signal negative."""
        while self.more():
            pass
        _, status = os.waitpid(self.pid, 0)
        self.status = os.waitstatus_to_exitcode(status)
        return self.status


# ---- elsewhere than on a terminal ----

def test_look_has_rates_states_probes_shares_and_events(balancer):
    look = json.loads(top(balancer, "-n", "1", "-j").stdout)
    vip, = look["vips"]
    assert vip["packets_per_s"] > 0 and round(vip["bits_per_s"] / vip["packets_per_s"]) == 800
    gpu1 = look["backends"][0]
    assert (gpu1["name"], gpu1["state"], gpu1["verdict"], gpu1["live"], gpu1["rtt_p50_us"]) == ("gpu1", "up", "why", 1, 7)
    assert (gpu1["loss_permille"], gpu1["share_permille"]) == (12, 250) and gpu1["bits_per_s"] == vip["bits_per_s"]
    assert look["total"] == {"backends": 2, "up": 2, "draining": 0, "down": 0, "live": 3,
                             **{k: vip[k] for k in ("packets_per_s", "bits_per_s", "new_flows_per_s")}}
    assert [e["text"] for e in look["events"]] == ["event 1", "event 2"] and look["unanswered_since"] is None


def test_who_wants_attention_stands_first_then_names_as_people_count(balancer):
    balancer.states = {"gpu10": "up", "gpu9": "up", "gpu8": "draining", "gpu7": "down", "gpu1": "up"}
    look = json.loads(top(balancer, "-n", "1", "-j").stdout)
    assert [b["name"] for b in look["backends"]] == ["gpu7", "gpu8", "gpu1", "gpu9", "gpu10"]


def test_servers_are_sorted_as_wanted(balancer):
    balancer.states = {"gpu2": "up", "gpu1": "up", "gpu3": "down"}  # live: 1, 2, 3
    for words, names in ((["name"], "gpu1 gpu2 gpu3"), (["live"], "gpu3 gpu1 gpu2"), (["pack"], "gpu1 gpu2 gpu3")):
        look = json.loads(top(balancer, "-n", "1", "-j", "sort", *words).stdout)
        assert [b["name"] for b in look["backends"]] == names.split(), words
    wrong = top(balancer, "sort", "cow")
    assert wrong.returncode == 2 and "state|name|live" in wrong.stderr


def test_blocks_are_printed_as_often_as_wanted(balancer):
    done = top(balancer, "-n", "3")
    assert (done.returncode, done.stderr) == (0, "")
    blocks = done.stdout.split("Z: shuntd answers\n")[1:]
    assert len(blocks) == 3 and "\x1b" not in done.stdout
    assert all(re.search(r"^gpu2 +up +why .* 7 us  1.2%  25.0%$", block, re.M) and "07:00:02 event 2\n" in block for block in blocks)
    assert len(top(balancer, "count", "2", "-j").stdout.splitlines()) == 2


@pytest.mark.parametrize("interval", ["99ms", "61m", "2562047h"])
def test_an_interval_that_nobody_means_is_misuse(balancer, interval):
    done = top(balancer, "-n", "1", interval=interval)
    assert (done.returncode, done.stderr) == (2, "shunt: 'interval' is from 100ms to 1h\n")


def test_an_ill_balancer_says_why(balancer):
    balancer.ill = "its program is gone"
    assert "the balancer is ill: its program is gone\n" in top(balancer, "-n", "1").stdout


def test_it_goes_on_when_the_daemon_comes_back(balancer):
    with stream(balancer) as looks:
        assert next(looks)["vips"][0]["packets_per_s"] > 0
        balancer.script.__exit__()
        gone = next(look for look in looks if look["unanswered_since"])
        assert [b["name"] for b in gone["backends"]] == ["gpu1", "gpu2"] and gone["events"]
        balancer.looks += 1000  # another one, whose counters have nothing to do with those before
        balancer.events = balancer.events[:1]
        balancer.script.__enter__()
        back = next(look for look in looks if not look["unanswered_since"])
        assert back["vips"][0]["packets_per_s"] is None and [e["number"] for e in back["events"]] == [1]
        assert next(looks)["vips"][0]["packets_per_s"] > 0


def test_counters_that_begin_anew_have_no_rate(balancer):
    with stream(balancer) as looks:
        assert next(looks)["vips"][0]["packets_per_s"] > 0
        balancer.looks = 0
        assert any(look["vips"][0]["packets_per_s"] is None for look in itertools.islice(looks, 20))


def test_newest_events_stay(balancer):
    with stream(balancer) as looks:
        next(looks)
        balancer.events += [{"number": n, "time": "", "text": f"event {n}"} for n in range(3, 30)]
        newest = next(look for look in looks if look["events"][-1]["number"] == 29)
    assert [e["number"] for e in newest["events"]] == list(range(22, 30))


def test_without_a_daemon_it_says_so_and_ends(tmp_path):
    done = subprocess.run([BUILD / "shunt", "-s", tmp_path / "none", "top"], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1 and "not running" in done.stderr and done.stdout == ""


def test_it_ends_when_nobody_reads(balancer):
    for ignored in (False, True):  # whoever called may have had SIGPIPE ignored
        with subprocess.Popen([BUILD / "shunt", "-s", balancer.socket, "top", "interval", "100ms"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, restore_signals=not ignored) as p:
            p.stdout.readline()
            p.stdout.close()
            complaint = p.stderr.read()
            assert (p.wait(SECONDS), complaint) == ((1, b"shunt: cannot write the output: Broken pipe\n") if ignored
                                                    else (-signal.SIGPIPE, b""))


# ---- on a terminal ----

def test_screen_is_filled_and_given_back(balancer):
    with Screen(balancer) as s:
        s.until(lambda: any(re.match(r"gpu1 .*25.0%", line) for line in s.frame()))
        assert s.seen.startswith(ENTER) and "07:00:02 event 2" in s.frame()[-1]
        assert not termios.tcgetattr(s.fd)[3] & (termios.ECHO | termios.ICANON)
        os.write(s.fd, b"q")
        assert s.end() == 0 and s.seen.endswith(LEAVE)
        assert termios.tcgetattr(s.fd) == s.before


def test_keys_say_how_to_sort(balancer):
    balancer.states = {"gpu2": "up", "gpu1": "up"}  # live: 1, 2

    def shown():
        return [line.split()[0] for line in s.frame() if line.startswith("gpu")]
    with Screen(balancer) as s:
        s.until(lambda: shown() == ["gpu1", "gpu2"])
        balancer.states["gpu2"] = "down"
        s.until(lambda: shown() == ["gpu2", "gpu1"])
        os.write(s.fd, b"n")
        s.until(lambda: shown() == ["gpu1", "gpu2"])
        os.write(s.fd, b"s")
        s.until(lambda: shown() == ["gpu2", "gpu1"])
        os.write(s.fd, b"xq")
        assert s.end() == 0


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_screen_is_given_back_after_a_signal(balancer, signo):
    with Screen(balancer) as s:
        s.until(lambda: len(s.frame()) > 1)
        os.kill(s.pid, signo)
        assert s.end() == -signo and s.seen.endswith(LEAVE)
        assert termios.tcgetattr(s.fd) == s.before


def test_screen_is_given_back_while_it_is_stopped(balancer):
    with Screen(balancer) as s:
        s.until(lambda: len(s.frame()) > 1)
        os.kill(s.pid, signal.SIGTSTP)
        assert os.WIFSTOPPED(os.waitpid(s.pid, os.WUNTRACED)[1])
        s.until(lambda: s.seen.endswith(LEAVE))
        assert termios.tcgetattr(s.fd) == s.before
        os.kill(s.pid, signal.SIGCONT)
        s.until(lambda: s.seen.rpartition(LEAVE)[2].startswith(ENTER) and s.seen.endswith(b"\x1b[J"))


@pytest.mark.parametrize("rows, columns", [(24, 80), (10, 40), (1, 1), (60, 200)])
def test_picture_fits_whatever_size_the_terminal_becomes(balancer, rows, columns):
    balancer.states = {f"gpu{i}": "up" for i in range(200)}
    with Screen(balancer, 50, 120) as s:
        s.until(lambda: any(re.match(r"and \d+ more", line) for line in s.frame()))
        assert len(s.frame()) <= 50
        s.resize(rows, columns)
        # What there is too much of is cut, and all of a screen that has room for a few rows is used.
        s.until(lambda: max(map(len, s.frame())) <= columns and (len(s.frame()) == rows or len(s.frame()) < rows < 24))
        if rows >= 24:
            shown = [line for line in s.frame() if line.startswith("gpu")]
            assert f"and {200 - len(shown)} more" in s.frame() and shown and "event 2" in s.frame()[-1]


def test_lines_of_a_usual_terminal_are_not_cut(balancer):
    balancer.states = {"gpu1": "draining", "gpu2": "up"}
    with Screen(balancer, 24, 85) as s:
        s.until(lambda: any(re.match(r"gpu1 .*%$", line) for line in s.frame()))


def test_screen_tells_since_when_nobody_answers_and_goes_on(balancer):
    with Screen(balancer) as s:
        s.until(lambda: "shuntd answers" in s.frame()[0])
        balancer.script.__exit__()
        s.until(lambda: "shuntd doesn't answer since" in s.frame()[0] and any(line.startswith("gpu1 ") for line in s.frame()))
        balancer.script.__enter__()
        s.until(lambda: "shuntd answers" in s.frame()[0])


def test_colours_tell_states_unless_they_are_unwanted(balancer):
    balancer.states = {"gpu1": "draining", "gpu2": "down"}
    with Screen(balancer) as s:
        s.until(lambda: b"\x1b[31mdown\x1b[m" in s.seen and b"\x1b[33mdraining\x1b[m" in s.seen)
    with Screen(balancer, env={"NO_COLOR": "1"}) as s:
        s.until(lambda: any(line.startswith("gpu2 ") for line in s.frame()))
        assert b"\x1b[3" not in s.seen
