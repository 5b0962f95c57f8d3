# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How often the backends are asked, where it can't be as often as configured."""
import re
import subprocess

import pytest

from cluster import Cluster
from conftest import BUILD
from topology import wait_for

N_MANY = 200


@pytest.fixture(scope="module")
def cluster():
    """One host with an agent, which answers for as many backends as are led to it."""
    with Cluster("shunt-rounds", BUILD, n_backends=1) as c:
        c.agents = {"gpu1": c.start_agent(c.backends[0])}
        c.balancer.run("ip", "route", "add", "10.9.0.0/24", "dev", "eth0")
        for i in range(1, N_MANY + 1):
            c.balancer.run("ip", "neigh", "add", f"10.9.0.{i}", "lladdr", c.backends[0].mac, "dev", "eth0", "nud", "permanent")
        wait_for(lambda: "ready" in c.log("agent-gpu1"), "the agent")
        yield c


@pytest.fixture
def started(cluster):
    yield cluster.start_shuntd
    cluster.stop_shuntd()


def config(cluster, n, interval):
    backends = "\n".join(f"      - {{name: b{i}, address: 10.9.0.{i}}}" for i in range(1, n + 1))
    return cluster.config(interval=interval, pools=f"  - name: gpus\n    forward: l2\n    backends:\n{backends}")


def probe(cluster):
    return cluster.shunt("stats", "show")["probe"]


def reload(cluster, text):
    cluster.write("shunt.yaml", text)
    return cluster.shunt("config", "reload")["changes"]


def widened(cluster):
    return cluster.events(object="shuntd", what="probes widened")


MANY = {f"b{i}": "up" for i in range(1, N_MANY + 1)}


def test_an_interval_that_cant_be_kept_is_widened_and_said(cluster, started):
    started(config(cluster, N_MANY, "50us"))
    cluster.wait_states(**MANY)
    said, shown = widened(cluster)[0], probe(cluster)
    assert said["why"] == "a round takes more than half of its interval"
    assert (said["evidence"]["configured"], said["evidence"]["before"]) == ("50us", "50us")
    assert said["evidence"]["round_us"] > 25
    assert shown["configured_interval_us"] == 50
    assert shown["interval_us"] >= 2 * said["evidence"]["round_us"]
    told = subprocess.run(cluster.shunt_argv("probe", "show", "b1"), capture_output=True, text=True, timeout=60)
    assert re.match(r"shunt: interval \d+ us \(configured 50 us\)", told.stderr)


def test_a_reload_with_more_backends_than_can_be_asked_in_time_widens_the_interval(cluster, started):
    started(config(cluster, 2, "100us"))
    cluster.wait_states(b1="up", b2="up")
    before_us = probe(cluster)["interval_us"]
    assert len(reload(cluster, config(cluster, N_MANY, "100us"))) == N_MANY - 2
    cluster.wait_states(**MANY)
    assert wait_for(lambda: widened(cluster), "the event")
    assert probe(cluster)["interval_us"] > before_us


def test_another_interval_in_the_file_ends_what_was_widened(cluster, started):
    started(config(cluster, N_MANY, "50us"))
    assert probe(cluster)["interval_us"] > 50
    reload(cluster, config(cluster, N_MANY, "20ms"))
    assert (probe(cluster)["interval_us"], probe(cluster)["configured_interval_us"]) == (20000, 20000)
