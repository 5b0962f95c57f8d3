# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A balancer with two interfaces: clients on eth0, backends behind eth1."""
import pytest

from cluster import SECOND_LEG, Cluster
from conftest import BUILD
from topology import VIP4, VIP6


@pytest.fixture(scope="module")
def cluster():
    with Cluster("shunt-leg", BUILD, n_backends=3) as c:
        c.switch.ip(f"link add second type veth peer name eth1 netns {c.balancer.netns}", "link set second master bridge up")
        # A veth takes redirected packets only if its peer has an XDP program.
        c.switch.run("ip", "link", "set", "dev", "second", "xdpdrv", "obj", BUILD / "bpf/plug.bpf.o", "program", "port_ingress")
        c.balancer.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1")  # both are in one segment: eth1 is silent about eth0
        c.balancer.ip("link set eth1 up", f"addr add {SECOND_LEG}/24 dev eth1")
        for b in c.backends:
            b.ip(f"addr add 10.0.1.{b.number}/24 dev eth0")
        c.start_backends()
        yield c


@pytest.mark.parametrize("forward", ["ipip", "l2"])
def test_packets_leave_by_the_interface_that_leads_to_the_backend(cluster, shuntd, forward):
    config = cluster.config(forward, interval="20ms")
    shuntd(config.replace("[eth0]", "[eth0, eth1]").replace("'10.0.0.", "'10.0.1."))
    assert {b["egress"] for b in cluster.shunt("backend", "show")} == {"eth1"}
    answers = [*cluster.ask(VIP4, 24), *cluster.ask(VIP6, 24)]
    assert [a["error"] for a in answers if a["error"]] == []
    assert {a["backend"] for a in answers} == {b.name for b in cluster.backends}
    packets = {r["name"]: r["packets"] for r in cluster.shunt("stats", "show")["reasons"]}
    assert packets["REDIRECTED"] > 0
    assert packets["FORWARDED"] == 0
