# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The Debian packages in the life of a host: installed in a fresh system under a systemd of its own, configured, run, reloaded,
hung, killed, upgraded, removed and purged. The balancer and one backend are such systems, on hosts of a Topology."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
from cluster import PORT, Cluster  # noqa: E402
from topology import VIP4, run, wait_for  # noqa: E402

BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build")).resolve()
DEBS = {path.name.partition("_")[0]: path for path in (BUILD / "deb").glob("shunt*.deb") if "dbgsym" not in path.name}
BASE = ["systemd-sysv", "iproute2", "man-db", "bash-completion"]
BOOT_S = 90


def base_system():
    """A tar of a minimal Debian and what the packages depend on, from the mirrors that this host's apt uses; made once."""
    wanted = {re.split(r"[ |]", word.strip())[0] for deb in DEBS.values() for word in run("dpkg-deb", "-f", deb, "Depends").split(",")}
    include = ",".join(sorted({*BASE, *wanted}))
    path = BUILD / f"deb-base-{hashlib.sha1(include.encode()).hexdigest()[:12]}.tar"
    if not path.exists():
        targets = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(SOURCESENTRY)", "Created-By: Packages")
        sources = sorted({line.split("|")[1].rpartition(":")[0] for line in targets.splitlines() if line.startswith("Debian|")})
        suite = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)[1]
        partial = path.with_suffix(".partial.tar")
        done = subprocess.run(["mmdebstrap", "--variant=minbase", f"--include={include}", suite, partial, *sources],
                              capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        partial.rename(path)
    return path


class System:
    """A booted system on a host of the topology."""

    def __init__(self, host, base):
        self.host = host
        self.root = host.topology.directory / f"root-{host.name}"
        self.root.mkdir()
        run("tar", "-C", self.root, "-xf", base)
        for deb in DEBS.values():
            shutil.copy(deb, self.root / "srv")
        os.environ["SYSTEMD_NSPAWN_API_VFS_WRITABLE"] = "yes"
        self.process = host.topology.start(f"boot-{host.name}", [
            "systemd-nspawn", "-q", "-D", self.root, f"--machine={host.netns}", "--boot", "--register=no", "--keep-unit",
            f"--network-namespace-path=/run/netns/{host.netns}", "--capability=all", "--system-call-filter=bpf perf_event_open",
            "--console=pipe"])
        self.init = wait_for(self.init_find, f"{host.name} to boot", BOOT_S)
        wait_for(lambda: self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"), "the system", BOOT_S)
        # A container gets no bpffs by itself, as a host does.
        self.run("mount", "-t", "bpf", "-o", "mode=0700", "bpf", "/sys/fs/bpf")

    def init_find(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children and pathlib.Path(f"/proc/{children[0]}/comm").read_text() == "systemd\n" else None

    def try_run(self, *argv):
        return subprocess.run(["nsenter", "-t", str(self.init), "-a", *map(str, argv)], capture_output=True, text=True, timeout=120)

    def run(self, *argv):
        done = self.try_run(*argv)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def apt(self, *argv):
        return self.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", *argv)

    def install(self, package):
        return self.apt("install", "--reinstall", f"./srv/{DEBS[package].name}")

    def show(self, unit, key):
        return self.run("systemctl", "show", "--property", key, "--value", unit).strip()

    def wait_restart(self, unit, pid):
        """Until the unit runs as another process than this. Its number, in the system's own count."""
        wait_for(lambda: self.show(unit, "ActiveState") == "active" and self.show(unit, "MainPID") not in ("0", pid), f"another {unit}", 30)
        return self.show(unit, "MainPID")

    def kill(self, unit, signal):
        self.run("systemctl", "kill", f"--signal={signal}", "--kill-who=main", unit)

    def log(self, unit):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def end(self):
        self.try_run("systemctl", "poweroff", "--force", "--force")
        self.process.wait(30)


class Installed(Cluster):
    """The shunt that is installed on the balancer."""

    def shunt_text(self, *argv, check=True):
        return self.system.try_run("shunt", *argv).stdout


@pytest.fixture(scope="module")
def cluster():
    base = base_system()
    with Installed("shunt-deb", BUILD, n_backends=2) as c:
        c.agents = {}
        c.system = System(c.balancer, base)
        c.backend = System(c.backends[0], base)
        c.start_agent(c.backends[1])
        yield c
        for system in (c.backend, c.system):
            system.end()


@pytest.fixture(autouse=True)
def logs(cluster, request):
    yield
    if request.session.testsfailed:
        for system, unit in ((cluster.system, "shuntd"), (cluster.backend, "shunt-agent")):
            print(system.try_run("journalctl", "--no-pager", "-n", "40", "-u", unit).stdout)


def config(cluster):
    """For an installed shuntd: the paths are those of the package."""
    return re.sub(r"^(control|pin|state): .*\n", "", cluster.config(interval="5ms", multiplier=10, hold="100ms"), flags=re.M)


def write(system, name, text):
    (system.root / "etc/shunt" / name).write_text(text)


# In this order: a host's life.

def test_packages_are_clean_for_lintian():
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", *DEBS.values()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert set(DEBS) == {"shunt", "shunt-agent"}


def test_package_installs_and_waits_for_a_configuration(cluster):
    system = cluster.system
    system.install("shunt")
    assert system.show("shuntd", "UnitFileState") == "enabled" and system.show("shuntd", "ActiveState") == "inactive"
    assert not (system.root / "etc/shunt/shunt.yaml").exists()
    assert system.run("getent", "group", "shunt")
    for program in ("shuntd", "shunt"):
        assert DEBS["shunt"].name.split("_")[1] in system.run(program, "--version")
    assert "backend" in system.run("shunt", "help")
    for page in ("shunt", "shuntd", "shunt-backend", "shunt.yaml"):
        assert f"/{page}." in system.run("man", "-w", page)
    examples = system.root / "usr/share/doc/shunt/examples"
    system.run("shuntd", "--check", "/usr/share/doc/shunt/examples/shunt.yaml")
    assert (examples / "keepalived-pair.conf").exists()


def test_agent_installs_and_serves(cluster):
    system = cluster.backend
    system.install("shunt-agent")
    assert system.show("shunt-agent", "ActiveState") == "inactive"
    assert DEBS["shunt-agent"].name.split("_")[1] in system.run("shunt-agent", "--version")
    system.run("shunt-agent", "--check", "/usr/share/doc/shunt-agent/examples/agent.yaml")
    write(system, "agent.yaml", f"interfaces: [eth0]\nvips: ['{VIP4}']\nsetup_vips: true\n")
    system.run("systemctl", "start", "shunt-agent")
    assert VIP4 in system.run("ip", "addr", "show", "dev", "lo")
    assert "pinned in /sys/fs/bpf/shunt-agent" in system.run("shunt-agent", "status")
    assert system.show("shunt-agent", "StatusText") == "serving"


def test_balancer_starts_and_serves(cluster):
    for b in cluster.backends:
        cluster.start_engine(b)
    for b in cluster.backends:
        wait_for(lambda: "ready" in cluster.log(f"engine-{b.name}"), "the engine")
    write(cluster.system, "shunt.yaml", config(cluster))
    cluster.system.run("systemctl", "start", "shuntd")
    cluster.wait_states()
    wait_for(lambda: cluster.system.show("shuntd", "StatusText") == "2 backends, 2 up", "the status")
    answers = cluster.ask(VIP4, 50)
    assert not [a for a in answers if a["error"]] and {a["backend"] for a in answers} == {"gpu1", "gpu2"}
    assert cluster.system.try_run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "shunt", "vip", "show").returncode == 1
    assert cluster.system.run("setpriv", "--reuid=65534", "--regid=shunt", "--clear-groups", "shunt", "vip", "show")


def test_reload_is_a_command_that_fails_if_the_file_is_wrong(cluster):
    system = cluster.system
    write(system, "shunt.yaml", config(cluster).replace("multiplier: 10", "multiplier: 12"))
    system.run("systemctl", "reload", "shuntd")
    assert "multiplier: 12" in system.run("shunt", "config", "show")
    write(system, "shunt.yaml", config(cluster).replace("multiplier", "multiplyer"))
    assert system.try_run("systemctl", "reload", "shuntd").returncode
    assert "shunt.yaml:3:" in system.log("shuntd") and system.show("shuntd", "ActiveState") == "active"
    write(system, "shunt.yaml", config(cluster))
    system.run("systemctl", "reload", "shuntd")


@pytest.mark.parametrize("signal", ["KILL", "SEGV", "STOP"])
@pytest.mark.parametrize("unit", ["shuntd", "shunt-agent"])
def test_daemon_that_dies_or_hangs_is_started_again(cluster, unit, signal):
    """What hangs, when its watchdog runs out."""
    system = cluster.system if unit == "shuntd" else cluster.backend
    pid = system.show(unit, "MainPID")
    system.kill(unit, signal)
    system.wait_restart(unit, pid)
    cluster.wait_states()


@pytest.mark.parametrize("unit, package", [("shuntd", "shunt"), ("shunt-agent", "shunt-agent")])
def test_upgrade_replaces_the_daemon_and_no_stream_breaks(cluster, unit, package):
    system = cluster.system if unit == "shuntd" else cluster.backend
    pid = system.show(unit, "MainPID")
    load = cluster.start_load(50)
    wait_for(lambda: (cluster.directory / "load.jsonl").stat().st_size, "the load's first streams")
    system.install(package)
    system.wait_restart(unit, pid)
    cluster.wait_states()
    assert not any(a["error"] for a in cluster.ask(VIP4, 20))
    streams = cluster.load_end(load)
    assert len(streams) > 50 and not [s for s in streams if s["error"]]


@pytest.mark.parametrize("unit, package", [("shuntd", "shunt"), ("shunt-agent", "shunt-agent")])
def test_removal_leaves_nothing_that_runs_and_a_purge_no_state(cluster, unit, package):
    system = cluster.system if unit == "shuntd" else cluster.backend
    system.apt("remove", package)
    assert "xdp" not in system.run("ip", "link", "show", "eth0")
    assert not [p for p in system.run("ls", "/sys/fs/bpf").split() if p.startswith("shunt")]
    file, = (system.root / "etc/shunt").iterdir()
    system.apt("purge", package)
    assert not (system.root / "var/lib/shunt").exists()
    assert file.exists()  # it was never the package's
    assert "/usr/sbin/shunt" not in system.run("sh", "-c", "ls /usr/sbin/shunt* /lib/systemd/system/shunt* 2>/dev/null || :")
