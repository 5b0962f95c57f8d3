# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""For engines in Python: say that you still move. Copy this file; it needs Python 3.9 and nothing else.

    beat = Beat()           # once, in the process that does the work
    while True:
        beat()              # in the loop that does the work, not in a thread beside it
        step()

When the newest beat is older than the limit in agent.yaml (engine: {beat: {limit: 500ms}}), the balancers send this host's
connections elsewhere. See include/shunt/beat.h, which is the same for C.
"""
import mmap
import os
import socket
import time


class Beat:
    def __init__(self, path="/run/shunt/beat.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(path)
            _, (fd,), _, _ = socket.recv_fds(s, 1, 1)
        self.stamp = memoryview(mmap.mmap(fd, mmap.PAGESIZE)).cast("Q")
        os.close(fd)

    def __call__(self):
        self.stamp[0] = time.monotonic_ns()
