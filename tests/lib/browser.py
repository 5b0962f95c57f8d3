# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A headless Chromium on a host of a topology, led through its DevTools protocol over two pipes
(https://chromedevtools.github.io/devtools-protocol/): JSON messages, each ended by a zero byte."""
import base64
import json
import os
import subprocess

from topology import wait_for


class Browser:
    def __init__(self, host):
        self.directory = host.topology.directory / "chromium"
        self.serial, self.loaded, self.complaints, self.received = 0, 0, [], b""
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        # It reads from descriptor 3 and writes to 4.
        script = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$@" 2>{host.topology.directory}/chromium.log'
        home = [f"{name}={host.topology.directory}" for name in ("HOME", "TMPDIR")]
        self.process = host.start("browser", "bash", "-c", script, "bash", "env", *home, "chromium", "--headless", "--no-sandbox",
                                  "--disable-gpu",
                                  "--remote-debugging-pipe", "--no-first-run", "--disable-extensions", "--disable-dev-shm-usage",
                                  f"--user-data-dir={self.directory}", "about:blank", pass_fds=(theirs_in, theirs_out),
                                  stdout=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        page = wait_for(lambda: [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"], "a page")[0]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    session = None

    def call(self, method, **parameters):
        self.serial += 1
        message = {"id": self.serial, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            reply = self.read()
            if reply.get("id") == self.serial:
                assert "error" not in reply, (method, reply["error"])
                return reply["result"]

    def read(self):
        while b"\0" not in self.received:
            more = os.read(self.into, 1 << 20)
            assert more, "chromium ended"
            self.received += more
        text, _, self.received = self.received.partition(b"\0")
        message = json.loads(text)
        self.note(message.get("method"), message.get("params", {}))
        return message

    def note(self, method, what):
        """Errors and warnings, whoever says them: a script, its exceptions, the network, the policies."""
        self.loaded += method == "Page.loadEventFired"
        if method == "Runtime.exceptionThrown":
            self.complaints.append(what["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value")) for a in what["args"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{what['entry']['text']} {what['entry'].get('url', '')}")

    def size(self, width, height, dark=False, scale=1):
        self.width = width
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600)
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url):
        """Returns when it is loaded."""
        loaded = self.loaded
        self.call("Page.navigate", url=url)
        while self.loaded == loaded:
            self.read()

    def value(self, expression):
        """Of JavaScript in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def screenshot(self, path, whole=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        os.close(self.out)
        os.close(self.into)
