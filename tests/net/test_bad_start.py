# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a daemon can't start with: one clear sentence, exit 1, and nothing left attached or pinned."""
import pathlib
import re

import pytest

from cluster import Cluster
from conftest import BUILD
from topology import VIP4


EVENT = r"(backend|pool|vip|shuntd) [\w.-]+: "  # what has happened until then is logged; it is no complaint


@pytest.fixture(scope="module")
def cluster():
    """Hosts alone: nobody answers there."""
    with Cluster("shunt-bad", BUILD, n_backends=1) as c:
        yield c


def traces(cluster):
    """What an attempt could leave behind."""
    attached = [line.split()[1:] for line in cluster.balancer.run("ip", "link", "show").splitlines() if "xdp" in line]
    return attached, sorted(map(str, pathlib.Path("/sys/fs/bpf").rglob("*"))), cluster.socket.exists()


def refused(cluster, config, *words, before=()):
    """shuntd refuses to start with this configuration, in one line that has these words."""
    path = cluster.write("bad.yaml", config)
    untouched = traces(cluster)
    done = cluster.balancer.try_run(*before, cluster.build / "shuntd", "-f", path)
    assert done.returncode == 1, done.stderr
    complaints = [line for line in done.stderr.splitlines() if not re.match(EVENT, line)]
    assert len(complaints) == 1, done.stderr
    for word in words:
        assert word in complaints[0]
    assert traces(cluster) == untouched


# What is changed in a good configuration, and what the sentence says. Lines and columns are those of the culprit.
FAULTS = {
    "an unknown key": ("detector: kernel", "detecter: kernel", [":4:1: ", "detecter"]),
    "a wrong type": ("multiplier: 3", "multiplier: three", [":3:38: ", "three"]),
    "a duration without a unit": ("interval: 100us", "interval: 100", [":3:19: ", "100"]),
    "an interval below what can be sent": ("interval: 100us", "interval: 10us", [":3:19: ", "50us"]),
    "a weight of zero": ("address: '10.0.0.11'", "address: 10.0.0.11, weight: 0", ["weight"]),
    "an unknown forwarding": ("forward: ipip", "forward: pigeon", ["pigeon", "ipip"]),
    "an unknown pool": ("pool: gpus", "pool: tpus", ["tpus"]),
    "a repeated VIP": ("  - {name: chat4", f"  - {{name: again, address: {VIP4}, protocol: tcp, port: 80, pool: gpus}}\n  - {{name: chat4",
                       [VIP4]),
    "a repeated name": ("name: chat6", "name: chat4", ["chat4"]),
    "an interface that does not exist": ("interfaces: [eth0]", "interfaces: [eth0, eth7]", ["eth7"]),
    "a group that does not exist": ("control: {", "control: {group: opss, ", ["control.group: no such group 'opss'"]),
    "admins that do not exist": ("control: {", "control: {admins: opss, ", ["control.admins: no such group 'opss'"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_shuntd_refuses(cluster, fault):
    good, bad, words = FAULTS[fault]
    config = cluster.config()
    assert good in config
    refused(cluster, config.replace(good, bad, 1), *words)


def test_shuntd_refuses_a_pool_without_backends(cluster):
    refused(cluster, cluster.config(pools="  - {name: gpus, forward: ipip, backends: []}"), "backend")


def test_shuntd_refuses_a_file_that_is_not_there(cluster):
    done = cluster.balancer.try_run(cluster.build / "shuntd", "-f", cluster.directory / "absent.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "absent.yaml" in done.stderr


def without(missing):
    """Before a command line: these capabilities are none of its."""
    return "setpriv", f"--bounding-set=-{missing}", f"--inh-caps=-{missing}"


@pytest.mark.parametrize("missing", ["all", "bpf", "net_admin", "net_raw", "perfmon", "sys_nice", "ipc_lock"])
def test_shuntd_names_the_privilege_it_misses(cluster, missing):
    refused(cluster, cluster.config(), "CAP_" + missing.upper().replace("ALL", ""), before=without(missing))


def test_a_second_shuntd_on_an_interface_is_refused_and_the_first_goes_on(cluster):
    cluster.start_shuntd(cluster.config())
    try:
        elsewhere = cluster.config().replace("shuntd.sock", "other.sock")
        refused(cluster, elsewhere, "eth0")
        assert not (cluster.directory / "other.sock").exists()
        refused(cluster, cluster.config())
        assert cluster.shunt("backend", "show")[0]["name"] == "gpu1"
    finally:
        cluster.stop_shuntd()


@pytest.mark.parametrize("mode", ["xdpdrv", "xdpgeneric"])
def test_an_xdp_program_of_somebody_else_is_never_replaced(cluster, mode):
    host = cluster.balancer
    host.run("ip", "link", "set", "dev", "eth0", mode, "obj", BUILD / "bpf/plug.bpf.o", "program", "port_ingress")
    try:
        refused(cluster, cluster.config(), "eth0", "XDP")
    finally:
        host.run("ip", "link", "set", "dev", "eth0", mode, "off")


# The same for the agent.
AGENT_FAULTS = {
    "an unknown key": ("interface: [eth0]\n", [":1:1: ", "interface"]),
    "an interface that does not exist": ("interfaces: [eth7]\npin: none\n", ["eth7"]),
    "an address that is none": (f"interfaces: [eth0]\nvips: ['{VIP4}', 203.0.113.300]\n", [":2:", "203.0.113.300"]),
}


@pytest.mark.parametrize("fault", AGENT_FAULTS)
def test_the_agent_refuses(cluster, fault):
    text, words = AGENT_FAULTS[fault]
    host = cluster.backends[0]
    done = host.try_run(cluster.build / "shunt-agent", "-f", cluster.write("bad-agent.yaml", text))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    for word in words:
        assert word in done.stderr
    assert "xdp" not in host.run("ip", "link", "show", "eth0")


@pytest.mark.parametrize("missing", ["bpf", "net_admin", "perfmon"])
def test_the_agent_names_the_privilege_it_misses(cluster, missing):
    host = cluster.backends[0]
    path = cluster.write("agent.yaml", f"interfaces: [eth0]\npin: none\ncontrol: {{socket: {cluster.agent_socket(host)}}}\n")
    done = host.try_run(*without(missing), cluster.build / "shunt-agent", "-f", path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert f"CAP_{missing.upper()}" in done.stderr
