# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the network tests share: the real daemons on hosts of their own. A failing test prints the counters and the logs."""
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/lib"))
from cluster import Cluster  # noqa: E402

BUILD = pathlib.Path(os.environ.get("SHUNT_BUILD", ROOT / "build"))
LOG_BYTES = 3000  # of each log's end, printed when a test fails

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would what it starts


@pytest.fixture
def for_all():
    """Copies a file to where everybody can read and run it: the tree may be in root's home."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield lambda path: shutil.copy(path, directory)


@pytest.fixture(scope="module")
def cluster():
    """Four backends with agent and engine; no controller yet."""
    with Cluster("shunt-net", BUILD) as c:
        c.start_backends(80, 8001, 8002)
        yield c


@pytest.fixture
def shuntd(cluster):
    """Starts the controller with a configuration and waits for backends, all unless some are named."""
    def start(config, *names):
        process = cluster.start_shuntd(config)
        cluster.wait_states(**{name: "up" for name in names})
        return process
    yield start
    cluster.plug.plug(*[h.name for h in cluster.hosts])
    cluster.stop_shuntd()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    cluster = item.funcargs.get("cluster")
    if cluster and report.failed:
        report.sections.append(("counters", cluster.shunt_text("stats", "show", check=False)))
        report.sections.append(("backends", cluster.shunt_text("backend", "show", check=False)))
        for path in sorted(cluster.directory.glob("*.log")):
            report.sections.append((path.name, path.read_text(errors="replace")[-LOG_BYTES:]))
