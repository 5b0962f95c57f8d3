#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Clients of a VIP, to be run on the client's host. Times are CLOCK_MONOTONIC, ns. Each request has its own connection.

  client.py ask  ADDRESS PORT N [BODY_BYTES]   N requests; prints [{"port", "backend", "error"}]
  client.py udp  ADDRESS PORT N                N datagrams, each from its own port and waiting for its answer; prints the same
  client.py load ADDRESS PORT RATE             opens RATE streams a second until SIGTERM, then lets them end; one JSON line
                                               for each stream that ended: {"opened_ns", "connected_ns", "closed_ns", "port",
                                               "backend", "tokens", "error"}

A stream whose next token is not there after PATIENCE_S has failed.
"""
import asyncio
import json
import signal
import socket
import sys
import time

PATIENCE_S = 3.0  # longer than the first retransmission of a SYN (1 s, RFC 6298 section 2)
AT_ONCE = 32  # requests of `ask` and `udp` in flight


async def request(address, port, body):
    """One streamed or plain completion; the record that `load` prints."""
    record = {"opened_ns": time.monotonic_ns(), "connected_ns": None, "closed_ns": None, "port": None, "backend": None,
              "tokens": 0, "error": None}
    writer = None
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE_S)
        record["connected_ns"] = time.monotonic_ns()
        record["port"] = writer.get_extra_info("sockname")[1]
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nHost: vip\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        done = False
        while line := await asyncio.wait_for(reader.readline(), PATIENCE_S):
            text = line.decode().strip().removeprefix("data: ")
            if text == "[DONE]":
                done = True
            elif text.startswith("{"):
                answer = json.loads(text)
                record["backend"] = answer["system_fingerprint"]
                record["tokens"] += 1
                done = done or answer["object"] == "chat.completion"
        if not done:
            record["error"] = "ended early"
    except (OSError, asyncio.TimeoutError) as e:
        record["error"] = type(e).__name__
    finally:
        if writer:
            writer.transport.abort() if record["error"] else writer.close()
    record["closed_ns"] = time.monotonic_ns()
    return record


async def ask(address, port, n, body_bytes=10):
    body = json.dumps({"messages": [{"role": "user", "content": "x" * body_bytes}], "max_tokens": 2}).encode()
    turn = asyncio.Semaphore(AT_ONCE)

    async def one():
        async with turn:
            return await request(address, port, body)
    print(json.dumps([{k: r[k] for k in ("port", "backend", "error")} for r in await asyncio.gather(*[one() for _ in range(n)])]))


async def udp(address, port, n):
    turn = asyncio.Semaphore(AT_ONCE)
    loop = asyncio.get_running_loop()

    async def one():
        async with turn:
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.setblocking(False)
                s.connect((address, port))
                record = {"port": s.getsockname()[1], "backend": None, "error": None}
                try:
                    s.send(b"who?")
                    record["backend"] = (await asyncio.wait_for(loop.sock_recv(s, 100), PATIENCE_S)).decode()
                except (OSError, asyncio.TimeoutError) as e:
                    record["error"] = type(e).__name__
                return record
    print(json.dumps(await asyncio.gather(*[one() for _ in range(n)])))


async def load(address, port, rate):
    body = json.dumps({"messages": [{"role": "user", "content": "tell me"}], "stream": True}).encode()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    streams = set()

    async def one():
        print(json.dumps(await request(address, port, body)), flush=True)
    while not stopped.is_set():
        task = asyncio.create_task(one())
        streams.add(task)
        task.add_done_callback(streams.discard)
        try:
            await asyncio.wait_for(stopped.wait(), 1 / rate)
        except asyncio.TimeoutError:
            pass
    await asyncio.gather(*streams)


if __name__ == "__main__":
    try:
        verb, where, dport, *rest = sys.argv[1:]
        numbers = [int(x) for x in rest]
        asyncio.run({"ask": ask, "udp": udp, "load": load}[verb](where, int(dport), *numbers))
    except (ValueError, KeyError, TypeError):
        sys.exit(__doc__)
