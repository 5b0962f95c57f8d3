# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The controller's events as they come, and what benches say of many values."""
import json
import socket
import statistics
import time


class Monitor:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.sendall(b'{"object": "event", "command": "monitor"}\n')
        self.unfinished, self.events = b"", []

    def close(self):
        self.socket.close()

    def read(self, seconds):
        """Append what comes next to `events`; false if nothing came in time."""
        self.socket.settimeout(max(seconds, 0.0001))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return False
        if not data:
            raise RuntimeError("the controller ended its events")
        *lines, self.unfinished = (self.unfinished + data).split(b"\n")
        self.events += [json.loads(line)["result"] for line in lines]
        return True

    def until(self, condition, seconds):
        """Read until the condition of the list of events is true; its value then or at last."""
        deadline = time.monotonic() + seconds
        while not (value := condition(self.events)) and (left := deadline - time.monotonic()) > 0:
            self.read(left)
        return value

    def wait(self, name, what, seconds):
        """The next event of this kind, or None, and the others that came on the way. All of them are forgotten."""
        def found(events):
            return next((e for e in events if (e["name"], e["what"]) == (name, what)), None)
        event = self.until(found, seconds)
        n = self.events.index(event) + 1 if event else len(self.events)
        taken, self.events = self.events[:n], self.events[n:]
        return event, [e for e in taken if e is not event]

    def take(self):
        """What was read and not taken yet, and what waits to be."""
        while self.read(0):
            pass
        taken, self.events = self.events, []
        return taken


def percentiles(values, **more):
    """Nearest rank: with fewer than a hundred values p99 is the largest. `more`: other quantiles by name, p999=0.999."""
    v = sorted(values)
    at = lambda q: round(v[min(len(v) - 1, int(q * len(v)))], 1)
    return {"p50": round(statistics.median(v), 1), "p99": at(0.99), **{name: at(q) for name, q in more.items()}, "max": round(v[-1], 1)}
