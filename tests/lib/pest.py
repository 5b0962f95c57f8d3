#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Clients that a listener has to bear.

  pest.py SOURCE PORT KIND N    HTTP, from the address SOURCE to 127.0.0.1:PORT
  pest.py unix PATH KIND N      the control socket

N connections of one KIND, kept open until stdin ends:
  idle      that say nothing
  half      that send the beginning of a request
  slow      that send a request byte by byte, for ever
  garbage   that send what is no request, each something else
  huge      that send a request without an end
  deaf      that ask for all there is again and again and read no answer
Prints "ready" when all of them have done so once.
"""
import os
import random
import select
import socket
import sys

# The beginning of a request, what goes before a part without end, and the rest of it.
HTTP = b"GET /metrics HTTP/1.1\r\nHost: x\r\n", b"X-Pest: ", b"\r\n"
CONTROL = b'{"object": "stats", "command": "metrics"', b', "args": {"name": "', b"}\n"


def words(protocol, kind, i):
    """(once, then for ever)"""
    begin, endless, rest = protocol
    if kind == "idle":
        return b"", b""
    if kind == "half":
        return begin[:i % len(begin)], b""
    if kind == "slow":
        return begin + endless, b"x"
    if kind == "garbage":
        return random.Random(i).randbytes(1 + i * 7 % 3000), b""
    if kind == "huge":
        return begin + endless, b"y" * 65536
    return begin + rest, (begin + rest) * 16


def connection(source, place):
    if source == "unix":
        s = socket.socket(socket.AF_UNIX)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((source, 0))
    s.setblocking(False)
    s.connect_ex(place if source == "unix" else ("127.0.0.1", int(place)))
    return s


def main(source, place, kind, n):
    protocol = CONTROL if source == "unix" else HTTP
    pests = [(connection(source, place), *words(protocol, kind, i)) for i in range(int(n))]
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
