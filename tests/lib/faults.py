# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The faults: how each is done to a Zoo, what should become of it, and what is promised.

A fault's play(zoo, n, quick) does it n times and returns the account as a dictionary; zoo.py keeps it. `expect` is the verdict
that all trials must reach: the event's reason, with `dead` its cause, "none", or "self-suspect" where the balancer must doubt
itself. Times are from the moment of the fault to the flip of the backend's word (`at_ns` of the event).
"""
import collections
import contextlib
import ctypes
import dataclasses
import os
import pathlib
import signal
import statistics
import time
import typing

from topology import VIP4, wait_for
from zoo import BEAT_LIMIT_MS, ENGINE, ENGINE_PORT, HOLD_MS, is_down, spread, trials

POWER_OFF_P99_US = 1000
LOSS_PERMILLE = 200
DEATH_P50_US, DEATH_P99_US = 300, 1000
PULSE_RATE = 2000  # datagrams a second, where it matters whether traffic goes on
DELAY_US = 2000
LONG_INTERVAL_US = 250  # where the cable is a process here, which is late itself at times
FORGET_S = 0.5  # the usual round trip is what it was before
FLAP_S = 0.5
RESTART_S = 0.1
NOTICE_MS = 100  # a new listener is noticed so soon
FLOOD_RATE = 1_000_000


@dataclasses.dataclass
class Fault:
    name: str
    kind: str
    expect: tuple
    promise: str
    play: typing.Callable
    n: int
    quick: int
    p50_us: float = None
    p99_us: float = None


def every(z):
    """Backends in turn."""
    names = [b.name for b in z.backends]
    return lambda i: [names[i % len(names)]]


def others(z):
    """In turn those whose engine nobody watches."""
    names = [b.name for b in z.backends if b.name != ENGINE]
    return lambda i: [names[i % len(names)]]


def engine(_):
    return [ENGINE]


def nobody(_):
    return []


# ---- hosts and links ----

def power_off(z, n, quick):
    return trials(z, n, every(z), lambda names: z.plug.unplug(*names), lambda names: z.plug.plug(*names)).row()


def half_the_pool(z, n, quick):
    names = [b.name for b in z.backends]
    half = len(names) // 2
    return trials(z, n, lambda i: [names[(i + k) % len(names)] for k in range(half)], lambda names: z.plug.unplug(*names),
                  lambda names: z.plug.plug(*names)).row()


def link_down(z, n, quick):
    """The switch notices: it forgets where the host was, and sends to all what is for it."""
    links = {b.name: z.link(b.name) for b in z.backends}

    def mend(names):
        links[names[0]].set(True)
        z.show_up()
    return trials(z, n, every(z), lambda names: links[names[0]].set(False), mend).row()


def forgotten(z, n, quick):
    """It stays dead for so long that the switch forgets where it was. Nobody may answer in its place."""
    returned = 0

    def mend(names):
        nonlocal returned
        z.switch.ip("link set bridge type bridge fdb_flush")
        returned += bool(z.monitor.until(lambda events: [e for e in events if e["what"] == "up" and e["name"] in names], 0.5))
        z.plug.plug(*names)
        z.show_up()
    account = trials(z, n, every(z), lambda names: z.plug.unplug(*names), mend)
    account.more |= {"returned_dead": returned, "kept": not returned}
    return account.row()


def lost_to(z, n, quick):
    return trials(z, n, every(z), lambda names: z.plug.deafen(*names), lambda names: z.plug.plug(*names)).row()


def lost_from(z, n, quick):
    return trials(z, n, every(z), lambda names: z.plug.mute(*names), lambda names: z.plug.plug(*names)).row()


def flapping(z, n, quick):
    """n times half a second without power and half a second with it. Each return is a fall to come, so hold grows."""
    z.controller(hold="100ms", hold_max="60s")
    victim, ups = "gpu3", 0
    fall_us, wrong = [], collections.Counter()
    for _ in range(n):
        z.monitor.take()
        fault_ns = z.plug.unplug(victim)
        time.sleep(FLAP_S)
        z.plug.plug(victim)
        time.sleep(FLAP_S)
        for e in z.monitor.take():
            if is_down(e) and e["name"] == victim and e["at_ns"] >= fault_ns:
                fall_us.append((e["at_ns"] - fault_ns) / 1000)
            elif is_down(e):
                wrong[e["name"]] += 1
            ups += (e["name"], e["what"]) == (victim, "up")
    row = {"trials": n, "verdicts": {"silent": len(fall_us)}, "detect_us": spread(fall_us), "wrong_ejections": sum(wrong.values()),
           "wrong": dict(wrong), "times_admitted": ups, "kept": ups <= 3}
    z.controller()
    return row


# ---- engine processes ----

def died(z, n, strike, resident=0, seconds=2.0):
    """strike(names) ends the engine, which has so much memory. A new one follows."""
    options = [f"resident={resident}"] if resident else []

    def mend(names):
        z.engine_start(*options)
    z.engine_start(*options)
    z.wait_up()
    account = trials(z, n, engine, strike, mend, seconds)
    if resident:
        z.engine_start()
        z.wait_up()
    return account


def sigkill(resident):
    """Beside our flip: when the engine's pidfd told its end, and when a connection to it was first refused."""
    def play(z, n, quick):
        pidfd_us, refused_us = [], []

        def strike(names):
            killed, pidfd, refused = map(int, z.undertaker().say(f"bury {z.engine.process.pid} 127.0.0.1 {ENGINE_PORT}")[1:])
            pidfd_us.append((pidfd - killed) / 1000)
            refused_us.append((refused - killed) / 1000)
            return killed
        account = died(z, n, strike, resident)
        account.more |= {"pidfd_us": spread(pidfd_us), "connect_refused_us": spread(refused_us)}
        return account.row()
    return play


def sigsegv(z, n, quick):
    def strike(names):
        z.engine.say("segv")
        return int(z.engine.process.stdout.readline().split()[1])
    return died(z, n, strike).row()


def out_of_memory(z, n, quick):
    """The moment is the kernel's choice of a victim: how long it searches for memory before is its own business."""
    with z.memory_cgroup(64 << 20) as cgroup, quiet_console():
        def strike(names):
            (cgroup / "cgroup.procs").write_text(str(z.engine.process.pid))
            z.undertaker().say("oom")
            z.engine.say(f"eat {256 << 20}")
            return lambda: int(z.undertaker().say("oom")[1])
        return died(z, n, strike, seconds=5).row()


@contextlib.contextmanager
def quiet_console():
    """The killer's report on a serial console holds up a processor for milliseconds, here the balancer's too."""
    levels = pathlib.Path("/proc/sys/kernel/printk")
    before = levels.read_text()
    levels.write_text("1")
    try:
        yield
    finally:
        levels.write_text(before)


def listener_closed(z, n, quick):
    def strike(names):
        at_ns = time.monotonic_ns()
        z.engine.do("close")
        return at_ns
    return trials(z, n, engine, strike, lambda names: z.engine.do("listen"), 2).row()


def restarted(z, n, quick):
    """A supervisor starts it again 100 ms after it was killed. `back`: from when it listens to when it is up."""
    listens = []

    def strike(names):
        at_ns = time.monotonic_ns()
        z.engine.kill()
        return at_ns

    def mend(names):
        time.sleep(RESTART_S)
        z.engine_start()
        listens.append(time.monotonic_ns())
    account = trials(z, n, engine, strike, mend)
    ups = [e["at_ns"] for e in z.events(name=ENGINE, what="up")]
    back_us = [(min(up for up in ups if up > ns) - ns) / 1000 for ns in listens]
    back = spread(back_us)
    account.more |= {"back_us": back, "kept": back["p99"] <= (NOTICE_MS + HOLD_MS + 30) * 1000}
    return account.row()


# ---- engines that stall ----

def sigstop(beats):
    def play(z, n, quick):
        z.engine_start(*([f"beat={z.directory}/beat.sock"] if beats else []))
        z.wait_up()

        def strike(names):
            at_ns = time.monotonic_ns()
            z.engine.kill(signal.SIGSTOP)
            return at_ns
        account = trials(z, n, engine, strike, lambda names: z.engine.kill(signal.SIGCONT), 1)
        z.engine_start()
        z.wait_up()
        return account.row()
    return play


# ---- agents ----

def agent_killed(z, n, quick):
    def strike(names):
        at_ns = time.monotonic_ns()
        z.agents[names[0]].kill()
        z.agents[names[0]].wait()
        return at_ns
    return trials(z, n, others(z), strike, lambda names: z.agent_start(names[0]), 0.5).row()


def agent_stopped(z, n, quick):
    def strike(names):
        at_ns = time.monotonic_ns()
        z.agents[names[0]].send_signal(signal.SIGSTOP)
        return at_ns
    return trials(z, n, every(z), strike, lambda names: z.agents[names[0]].send_signal(signal.SIGCONT), 1).row()


def agent_stopped_engine_killed(z, n, quick):
    def strike(names):
        z.agents[ENGINE].send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        at_ns = time.monotonic_ns()
        z.engine.kill()
        return at_ns

    def mend(names):
        z.agents[ENGINE].send_signal(signal.SIGCONT)
        z.engine_start()
    return trials(z, n, engine, strike, mend).row()


def program_detached(z, n, quick):
    """Somebody takes the agent's program off its interface. The agent sees that, and puts it back."""
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)

    def strike(names):
        links = [libbpf.bpf_link_get_fd_by_id(number) for number in z.links_of(names[0])]
        at_ns = time.monotonic_ns()
        for link in links:
            if libbpf.bpf_link_detach(link):
                raise OSError(ctypes.get_errno(), "bpf_link_detach")
            os.close(link)
        return at_ns

    return trials(z, n, others(z), strike, lambda names: None).row()


# ---- the balancer itself ----

def controller_stopped(z, n, quick):
    def strike(names):
        z.shuntd.send_signal(signal.SIGSTOP)
        time.sleep(2)
        z.shuntd.send_signal(signal.SIGCONT)
        return time.monotonic_ns()
    return trials(z, n, nobody, strike, lambda names: None, 0.5).row()


def controller_killed(z, n, quick):
    """Does traffic go on without it? Counted at the backends, in half a second before and in one after."""
    kept = []
    z.controller(pin=z.pin)
    with z.pulse(PULSE_RATE) as arrived:
        def strike(names):
            first = arrived()
            time.sleep(0.5)
            before = arrived() - first
            at_ns = time.monotonic_ns()
            z.shuntd.kill()
            z.shuntd.wait()
            first = arrived()
            time.sleep(0.5)
            kept.append((arrived() - first) / before if before else 0)
            z.controller(pin=z.pin)
            return at_ns
        account = trials(z, n, nobody, strike, lambda names: None, 0)
    z.shunt_text("daemon", "stop", "detach")
    z.controller()
    share = round(statistics.median(kept), 3)
    account.more |= {"traffic_after": share, "kept": share > 0.9}
    return account.row()


def own_link_down(z, n, quick):
    link = z.link("balancer")
    return trials(z, n, nobody, lambda names: link.set(False), lambda names: (time.sleep(0.05), link.set(True)), 1,
                  sign="self-suspect").row()


def own_link_cut(z, n, quick):
    return trials(z, n, nobody, lambda names: z.plug.unplug("balancer"), lambda names: z.plug.plug("balancer"), 1,
                  sign="self-suspect").row()


def all_silent(z, n, quick):
    names = [b.name for b in z.backends]
    return trials(z, n, nobody, lambda _: z.plug.unplug(*names), lambda _: z.plug.plug(*names), 1, sign="self-suspect").row()


# ---- the network ----

def loss_at(z, names, seconds):
    """Seconds of it; every fall is a wrong one. up: how many of the pool were up, on average and at least."""
    z.controller(hold="1s")
    up = []
    z.monitor.take()
    begun = time.monotonic()
    z.plug.lose(LOSS_PERMILLE, *names)
    while time.monotonic() < begun + seconds:
        up.append(sum(b["state"] == "up" for b in z.control.ask("backend", "show")))
        time.sleep(0.02)
    demanded = [p["rounds_to_convict"] for p in z.control.ask("probe", "show") if p["backend"] in names]
    z.plug.plug(*names)
    falls = collections.Counter(f"{e['name']}: {e['why']}" for e in z.monitor.take() if is_down(e))
    z.controller()
    return {"trials": 1, "seconds": seconds, "verdicts": {"silent" if falls else "none": 1}, "detect_us": None,
            "wrong_ejections": sum(falls.values()), "wrong": dict(falls), "up_mean": round(statistics.mean(up), 2), "up_least": min(up),
            "rounds_to_convict": demanded}


def loss_at_one(z, n, quick):
    return loss_at(z, ["gpu2"], n)


def loss_at_all(z, n, quick):
    return loss_at(z, [b.name for b in z.backends], n)


def lossy_power_off(z, n, quick):
    """Of a backend on a way that loses as much, known for a while: it takes more rounds to be sure."""
    def known(name):
        wait_for(lambda: next(p for p in z.control.ask("probe", "show") if p["backend"] == name)["rounds_to_convict"] > 8, "the loss to be seen")

    def off(names):
        z.plug.lose(LOSS_PERMILLE, *names)
        known(*names)
        return z.plug.unplug(*names)
    return trials(z, n, others(z), off, lambda names: z.plug.plug(*names), 1).row()


def longer_at_one(z, n, quick):
    """Suddenly the way there and back takes 2 ms more. It is found silent, and its answers take that back: they are only late."""
    z.controller(interval=f"{LONG_INTERVAL_US}us", hold="500ms")  # what is usual on the new way must be known by then
    host = z.host("gpu3")
    with z.cable(host) as cable:
        def mend(names):
            z.wait_up()
            z.monitor.until(lambda events: False, 0.2 if quick else 2)
            cable.say("delay 0")
            time.sleep(FORGET_S)
        account = trials(z, n, lambda i: [host.name], lambda names: int(cable.say(f"delay {DELAY_US // 2}")[1]), mend)
        account.more |= {"interval_us": LONG_INTERVAL_US, "cable": " ".join(cable.say("count"))}
    z.controller()
    return account.row()


def longer_at_all(z, n, quick):
    z.controller(interval=f"{LONG_INTERVAL_US}us")
    with z.cable(z.balancer) as cable:
        account = trials(z, n, nobody, lambda names: int(cable.say(f"delay {DELAY_US // 2}")[1]),
                         lambda names: (time.sleep(0.5), cable.say("delay 0"), time.sleep(FORGET_S)), 0.5, sign="self-suspect")
        account.more |= {"interval_us": LONG_INTERVAL_US, "cable": " ".join(cable.say("count"))}
    z.controller()
    return account.row()


class Flood:
    """SYNs for a VIP, as fast as one processor sends them."""

    def __init__(self, z, seconds):
        self.z, self.seen = z, self.received(z)
        self.process = z.client.start("flood", z.build / "tests/lib/flood", "eth0", FLOOD_RATE * seconds, FLOOD_RATE, z.balancer.mac, VIP4, 80)
        self.begun = time.monotonic()

    @staticmethod
    def received(z):
        """Packets that the balancer saw, beside its probes' answers."""
        return sum(r["packets"] or 0 for r in z.control.ask("stats", "show")["reasons"] if not r["name"].startswith("PROBE_"))

    def end(self):
        """Packets a second that came."""
        seen, took = self.received(self.z) - self.seen, time.monotonic() - self.begun
        if self.process.poll() is not None or not seen:
            raise RuntimeError(f"there was no flood: {self.z.log('flood')}")
        self.process.kill()
        self.process.wait()
        return round(seen / took)


def flooded(z, n, quick):
    account = trials(z, 0, nobody, None, None)
    flood = Flood(z, n)
    time.sleep(n)
    rate = flood.end()
    time.sleep(0.2)
    account.judge(z.monitor.take(), (), 0)
    account.note("none")
    account.trials, account.more = 1, {"seconds": n, "packets_per_s": rate}
    z.wait_up()
    return account.row()


def flooded_power_off(z, n, quick):
    flood = Flood(z, 600)
    try:
        account = trials(z, n, others(z), lambda names: z.plug.unplug(*names), lambda names: z.plug.plug(*names), 2)
    finally:
        rate = flood.end()
    account.more |= {"packets_per_s": rate}
    z.wait_up()
    return account.row()


SILENT, DEATH = "p99 <= 1 ms", "p50 <= 0.3 ms, p99 <= 1 ms"
NOBODY = "nobody is ejected"
GB = 1 << 30

FAULTS = [
    Fault("power-off", "host", ("silent",), SILENT, power_off, 500, 10, p99_us=POWER_OFF_P99_US),
    Fault("half-the-pool", "host", ("silent",), SILENT, half_the_pool, 200, 10, p99_us=POWER_OFF_P99_US),
    Fault("flapping", "host", ("silent",), "admitted 3 times at most", flapping, 30, 6),
    Fault("link-down", "link", ("silent",), SILENT, link_down, 50, 4, p99_us=POWER_OFF_P99_US),
    Fault("forgotten-by-switch", "link", ("silent",), f"{SILENT}; stays down", forgotten, 20, 4, p99_us=POWER_OFF_P99_US),
    Fault("lost-to-backend", "link", ("silent",), SILENT, lost_to, 100, 8, p99_us=POWER_OFF_P99_US),
    Fault("lost-from-backend", "link", ("silent",), SILENT, lost_from, 100, 8, p99_us=POWER_OFF_P99_US),
    Fault("sigkill-8mb", "engine process", ("dead (killed by signal 9)",), DEATH, sigkill(0), 200, 8, DEATH_P50_US, DEATH_P99_US),
    Fault("sigkill-4gb", "engine process", ("dead (killed by signal 9)",), DEATH, sigkill(4 * GB), 50, 2, DEATH_P50_US, DEATH_P99_US),
    Fault("sigsegv", "engine process", ("dead (killed by signal 11)",), DEATH, sigsegv, 100, 5, DEATH_P50_US, DEATH_P99_US),
    Fault("oom", "engine process", ("dead (killed for want of memory)", "dead (killed by signal 9)"), DEATH, out_of_memory, 50, 4,
          DEATH_P50_US, DEATH_P99_US),
    Fault("listener-closed", "engine process", ("dead (its listening socket is gone)",), f"p99 <= {NOTICE_MS} ms", listener_closed, 50, 4,
          p99_us=NOTICE_MS * 1000),
    Fault("restarted-in-100ms", "engine process", ("dead (killed by signal 9)",), f"{DEATH}; up {NOTICE_MS} ms and hold after it listens",
          restarted, 50, 4, DEATH_P50_US, DEATH_P99_US),
    Fault("sigstop-without-beat", "engine stall", ("none",), "not taken for a stall", sigstop(False), 20, 2),
    Fault("sigstop-with-beat", "engine stall", ("stalled",), f"p99 <= its limit ({BEAT_LIMIT_MS} ms) + 0.3 ms", sigstop(True), 100, 5,
          p99_us=BEAT_LIMIT_MS * 1000 + 300),
    Fault("agent-killed", "agent", ("none",), "its kernel's side goes on answering", agent_killed, 20, 2),
    Fault("agent-stopped", "agent", ("none",), NOBODY, agent_stopped, 20, 2),
    Fault("agent-stopped-sigkill", "agent", ("dead (killed by signal 9)",), DEATH, agent_stopped_engine_killed, 50, 3, DEATH_P50_US,
          DEATH_P99_US),
    Fault("program-detached", "agent", ("silent",), SILENT, program_detached, 30, 3, p99_us=POWER_OFF_P99_US),
    Fault("shuntd-stopped-2s", "balancer", ("none",), NOBODY, controller_stopped, 20, 2),
    Fault("shuntd-killed", "balancer", ("none",), "traffic goes on", controller_killed, 5, 1),
    Fault("own-link-down", "balancer", ("self-suspect",), NOBODY, own_link_down, 20, 3),
    Fault("own-link-cut", "balancer", ("self-suspect",), NOBODY, own_link_cut, 100, 5),
    Fault("all-silent", "balancer", ("self-suspect",), NOBODY, all_silent, 100, 5),
    Fault("loss-20%-one", "network", ("none",), NOBODY, loss_at_one, 60, 5),
    Fault("loss-20%-all", "network", ("none",), NOBODY, loss_at_all, 60, 5),
    Fault("loss-20%-power-off", "network", ("silent",), "p99 <= 5 ms", lossy_power_off, 50, 5, p99_us=5000),
    Fault("delay-2ms-one", "network", ("none",), NOBODY, longer_at_one, 10, 2),
    Fault("delay-2ms-all", "network", ("self-suspect", "none"), NOBODY, longer_at_all, 10, 2),
    Fault("flood", "network", ("none",), NOBODY, flooded, 30, 3),
    Fault("flood-power-off", "network", ("silent",), SILENT, flooded_power_off, 100, 5, p99_us=POWER_OFF_P99_US),
]


def judged(fault, row):
    """The row with its verdict, and why its promise is not met, if it isn't."""
    verdict = max(row["verdicts"], key=row["verdicts"].get) if row["verdicts"] else "none"
    unmet = [f"{n} times {v}" for v, n in row["verdicts"].items() if v not in fault.expect]
    if row["wrong_ejections"]:
        unmet.append(f"{row['wrong_ejections']} wrong ejections")
    for key, limit in (("p50", fault.p50_us), ("p99", fault.p99_us)):
        if limit and row["detect_us"] and row["detect_us"][key] > limit:
            unmet.append(f"{key} {row['detect_us'][key]:.0f} us")
    if row.get("kept") is False:
        unmet.append("see the row")
    return {"name": fault.name, "class": fault.kind, "verdict": verdict, "expected": list(fault.expect), **row, "promise": fault.promise,
            "met": not unmet, "unmet": unmet}
