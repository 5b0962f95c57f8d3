# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the daemons may do once they run, read from /proc, and that it is enough; and who may say what on the socket."""
import os
import pathlib
import pwd
import re
import shutil
import subprocess

import pytest

from cluster import PYTHON, Cluster
from conftest import BUILD
from topology import VIP4, run, stop, wait_for

BITS = {"dac_read_search": 2, "net_admin": 12, "net_raw": 13, "ipc_lock": 14, "sys_ptrace": 19, "sys_nice": 23, "bpf": 39}
SHUNTD = {"bpf", "net_admin", "net_raw", "sys_nice", "ipc_lock"}
AGENT = {"bpf", "net_admin"}
GROUP, ADMINS = "users", "games"
ENGINE_PORT = 9000
OUTSIDER = ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
KEY, NEXT_KEY = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"


@pytest.fixture(scope="module")
def cluster():
    with Cluster("shunt-priv", BUILD, n_backends=3) as c:
        c.start_backends()
        yield c


@pytest.fixture
def shuntd(cluster):
    def start(config):
        process = cluster.start_shuntd(config)
        cluster.wait_states()
        return process
    yield start
    cluster.plug.plug(*[h.name for h in cluster.hosts])
    cluster.forget()


def privileges(process):
    """The sets of a process's threads, when all are alike: the names in each, and whether they are final."""
    threads = set()
    for path in pathlib.Path(f"/proc/{process.pid}/task").glob("*/status"):
        threads.add(tuple(re.findall(r"^((?:Cap|NoNewPrivs).*):\s+(\w+)$", path.read_text(), re.M)))
    assert len(threads) == 1, threads
    sets = dict(threads.pop())
    final = sets.pop("NoNewPrivs")
    return {key: int(value, 16) for key, value in sets.items()}, final == "1"


def assert_has_only(process, names):
    mask = sum(1 << BITS[name] for name in names)
    assert privileges(process) == ({"CapInh": 0, "CapPrm": mask, "CapEff": mask, "CapBnd": mask, "CapAmb": 0}, True)


def reload(cluster, config):
    cluster.write("shunt.yaml", config)
    cluster.shunt("config", "reload")
    cluster.wait_states()


def attached(cluster, interface):
    return "xdp" in cluster.balancer.run("ip", "link", "show", interface)


def test_shuntd_keeps_what_it_is_said_to_need_and_that_is_enough_for_all_it_does(cluster, shuntd):
    cluster.balancer.ip("link add eth1 type veth peer name eth2", "link set eth1 up", "link set eth2 up")
    state, track = cluster.directory / "state", cluster.directory / "track"
    config = cluster.config(interval="1ms", multiplier=10, hold="20ms", pin=cluster.pin).replace("state: none", f"state: {state}") \
        + f"\nhttp: {{port: 9784}}\nkeepalived: {{track_file: {track}}}\n"
    process = shuntd(config)
    assert_has_only(process, SHUNTD)

    # An interface, keys, and a check that is sent by another socket: none of it was there at the start.
    keys = cluster.write_keys("probe.keys", KEY)
    address = f"'{cluster.backends[2].ipv4}'"
    more = config.replace("[eth0]", "[eth0, eth1]").replace("hold: 20ms,", f"hold: 20ms, key_file: {keys},") \
        .replace(address, f"{address}, check: echo")
    reload(cluster, more)
    assert attached(cluster, "eth1")
    cluster.write_keys("probe.keys", NEXT_KEY, KEY)
    reload(cluster, more)
    reload(cluster, config)
    wait_for(lambda: not attached(cluster, "eth1"), "the interface to be let go")

    cluster.shunt("backend", "drain", "gpu1")
    wait_for(lambda: cluster.events(name="gpu1", what="drained"), "gpu1 to be drained")
    cluster.shunt("backend", "undrain", "gpu1")
    cluster.wait_states()
    cluster.plug.unplug("gpu2")
    cluster.wait_states(gpu2="down")
    wait_for(lambda: not [r for r in cluster.ask(VIP4, 20) if r["error"]], "the others to serve")
    cluster.plug.plug("gpu2")
    cluster.wait_states()

    assert len(list(pathlib.Path(f"/proc/{process.pid}/task").iterdir())) > 1
    assert_has_only(process, SHUNTD)
    assert cluster.balancer.run("curl", "-sf", "http://127.0.0.1:9784/metrics")

    # The next one goes on with what is pinned, and with what is kept.
    cluster.shunt("backend", "drain", "gpu1")
    assert cluster.stop_shuntd() == 0 and attached(cluster, "eth0")
    process = cluster.start_shuntd(config)
    assert_has_only(process, SHUNTD)
    assert cluster.events(what="took over") and cluster.states()["gpu1"] in ("draining", "drained")
    assert list(state.iterdir()) and track.read_text()[0] in "01"
    assert cluster.stop_shuntd() == 0


@pytest.mark.parametrize("engine, names", [("", AGENT), (f"engine: {{listen: {ENGINE_PORT}}}\n", AGENT | {"sys_ptrace", "dac_read_search"})],
                         ids=["without an engine", "with an engine that is found by its port"])
def test_agent_keeps_what_it_is_said_to_need_and_finds_the_engine_of_another_user(cluster, engine, names):
    host = cluster.backends[0]
    server = host.start("server", "setpriv", *OUTSIDER, PYTHON, "-m", "http.server", "--bind", host.ipv4, ENGINE_PORT)
    stop(cluster.agents[host.name])
    cluster.agents[host.name] = agent = cluster.start_agent(host, engine)
    wait_for(lambda: "ready: " in cluster.log(f"agent-{host.name}"), "the agent")
    assert_has_only(agent, names)
    status = [BUILD / "shunt-agent", "-s", cluster.agent_socket(host), "status"]
    wait_for(lambda: f"process {server.pid}" in run(*status) or not engine, "the engine to be found")
    stop(server)
    # It still can attach its program, and take everything back.
    link, = cluster.agent_pin(host).glob("xdp-*")
    run("bpftool", "link", "detach", "pinned", link)
    wait_for(lambda: "attached again" in cluster.log(f"agent-{host.name}"), "the program to be back")
    assert stop(agent) == 0 and not cluster.agent_pin(host).exists()
    cluster.agents[host.name] = cluster.start_agent(host)


# ---- who may say what ----

READS = [["vip", "show"], ["backend", "show"], ["probe", "show"], ["slot", "show"], ["flow", "count"], ["event", "show"],
         ["stats", "show"], ["config", "show"]]
COMMANDS = [["backend", "drain", "gpu1"], ["backend", "undrain", "gpu1"], ["flow", "reset", "all"], ["config", "reload"]]


def ask(cluster, group, *argv, also=None):
    """By somebody who is in this group alone, or also in another. The finished process."""
    program = cluster.directory / "shunt"
    if not program.exists():
        shutil.copy(BUILD / "shunt", program)  # where everybody may execute it
    who = ["setpriv", OUTSIDER[0], f"--regid={group}", f"--groups={also}" if also else "--clear-groups"]
    return subprocess.run([str(a) for a in (*who, program, "-s", cluster.socket, *argv)], capture_output=True, text=True, timeout=60)


def test_group_reads_and_commands_nothing_and_others_are_refused(cluster, shuntd):
    shuntd(cluster.config(interval="1ms", multiplier=10).replace("control: {", f"control: {{group: {GROUP}, "))
    assert os.stat(cluster.socket).st_mode & 0o777 == 0o660
    for command in READS:
        assert ask(cluster, GROUP, *command).returncode == 0, command
    before = cluster.states()
    for command in COMMANDS:
        done = ask(cluster, GROUP, *command)
        assert done.returncode == 1 and "root" in done.stderr, done.stderr
    assert cluster.states() == before
    for command in READS + COMMANDS:
        done = ask(cluster, "nogroup", *command)
        assert done.returncode == 1 and done.stderr == f"shunt: no permission for {cluster.socket}: it is for root and group {GROUP}\n"


@pytest.mark.parametrize("own, also", [(GROUP, ADMINS), (ADMINS, GROUP)], ids=["as another group of theirs", "as their own group"])
def test_admins_command_and_readers_only_read(cluster, shuntd, own, also):
    config = cluster.config(interval="1ms", multiplier=10).replace("control: {", f"control: {{group: {GROUP}, admins: {ADMINS}, ")
    shuntd(config)
    for command in COMMANDS:
        done = ask(cluster, GROUP, *command)
        assert done.returncode == 1 and f"is for root and group {ADMINS}" in done.stderr, done.stderr
        done = ask(cluster, own, *command, also=also)
        assert done.returncode == 0, done.stderr
    assert ask(cluster, own, *READS[0], also=also).returncode == 0
    long = cluster.write("long.yaml", config + "# no request of a reader is that long\n" * 3000)
    assert ask(cluster, own, "config", "apply", long, also=also).stdout == "no change\n"
    assert [e["evidence"]["uid"] for e in cluster.events(name="gpu1", what="draining")] == [pwd.getpwnam("nobody").pw_uid]
    done = ask(cluster, ADMINS, *READS[0])
    assert done.returncode == 1 and "no permission" in done.stderr  # who is in both may connect
