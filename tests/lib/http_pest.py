#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Clients that an HTTP listener has to bear.

  http_pest.py SOURCE PORT KIND N

From the address SOURCE to 127.0.0.1:PORT, N connections of one KIND, kept open until stdin ends:
  idle      that say nothing
  half      that send the beginning of a request
  slow      that send a header more, byte by byte, for ever
  garbage   that send what is no HTTP, each something else
  huge      that send a header without an end
  deaf      that ask for the metrics again and again and read no answer
Prints "ready" when all of them have done so once.
"""
import os
import random
import select
import socket
import sys

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


def words(kind, i):
    """(once, then for ever)"""
    if kind == "idle":
        return b"", b""
    if kind == "half":
        return REQUEST[:i % len(REQUEST)], b""
    if kind == "slow":
        return REQUEST + b"X-Slow: ", b"x"
    if kind == "garbage":
        return random.Random(i).randbytes(1 + i * 7 % 3000), b""
    if kind == "huge":
        return REQUEST + b"X-Huge: ", b"y" * 65536
    return REQUEST + b"\r\n", (REQUEST + b"\r\n") * 16


def main(source, port, kind, n):
    pests = []
    for i in range(int(n)):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((source, 0))
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", int(port)))
        pests.append((s, *words(kind, i)))
    select.select([], [s for s, _, _ in pests], [], 1)
    said = False
    while True:
        for s, once, for_ever in pests:
            try:
                s.send(for_ever if said else once) if for_ever or not said else None
            except OSError:
                pass  # cut off, or no room
        if not said:
            print("ready", flush=True)
        said = True
        if select.select([sys.stdin], [], [], 0.05)[0] and not os.read(0, 1):
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
