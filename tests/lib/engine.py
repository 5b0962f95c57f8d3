#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A stub of an inference engine with an OpenAI-compatible API: it invents tokens and says which backend invented them.

  engine.py NAME ADDRESS:PORT...        e.g. engine.py gpu1 203.0.113.10:443 [2001:db8:ff::10]:443

POST /v1/chat/completions ("stream": true or false; "max_tokens", default 16), GET /v1/models, /health, /metrics (named as
vLLM names them). Each answer's "system_fingerprint" is NAME. A UDP socket on the same ports answers each datagram with
NAME, and swallows empty ones. One request a connection. It need not own the addresses yet when it starts (IP_FREEBIND).
"""
import asyncio
import json
import socket
import sys
import time

TOKEN_S = 0.03  # pace of the tokens
IP_FREEBIND, IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h
BODY_MAX = 16 << 20


class Engine:
    def __init__(self, name):
        self.name = name
        self.running = self.finished = self.tokens = 0

    async def serve(self, reader, writer):
        try:
            method, path, body = await read_request(reader)
            await self.route(method, path, body, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            pass  # the client left or spoke something else than HTTP
        finally:
            writer.close()

    async def route(self, method, path, body, writer):
        if (method, path) == ("POST", "/v1/chat/completions"):
            await self.complete(body, writer)
        elif (method, path) == ("GET", "/health"):
            reply(writer, 200, "text/plain", b"")
        elif (method, path) == ("GET", "/metrics"):
            reply(writer, 200, "text/plain; version=0.0.4", self.metrics().encode())
        elif (method, path) == ("GET", "/v1/models"):
            models = {"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": self.name}]}
            reply(writer, 200, "application/json", json.dumps(models).encode())
        else:
            reply(writer, 404, "application/json", b'{"error": {"message": "no such path"}}')
        await writer.drain()

    def metrics(self):
        values = {"num_requests_running": self.running, "num_requests_waiting": 0, "generation_tokens_total": self.tokens,
                  "request_success_total": self.finished, "kv_cache_usage_perc": min(1.0, self.running / 256)}
        return "".join(f'vllm:{k}{{model_name="stub"}} {v}\n' for k, v in values.items())

    def chunk(self, text, finish=None, key="delta"):
        return {"id": "chatcmpl-stub", "created": int(time.time()), "model": "stub", "system_fingerprint": self.name,
                "object": "chat.completion.chunk" if key == "delta" else "chat.completion",
                "choices": [{"index": 0, key: {"role": "assistant", "content": text}, "finish_reason": finish}]}

    async def complete(self, body, writer):
        try:
            request = json.loads(body)
            n = int(request.get("max_tokens", 16))
        except (ValueError, TypeError, AttributeError):
            return reply(writer, 400, "application/json", b'{"error": {"message": "not a JSON object"}}')
        self.running += 1
        try:
            if not request.get("stream"):
                answer = self.chunk(" ".join(f"token{i}" for i in range(n)), "stop", "message")
                answer["usage"] = {"prompt_tokens": len(body), "completion_tokens": n}
                reply(writer, 200, "application/json", json.dumps(answer).encode())
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                for i in range(n):
                    writer.write(b"data: " + json.dumps(self.chunk(f"token{i} ")).encode() + b"\n\n")
                    await writer.drain()
                    await asyncio.sleep(TOKEN_S)
                writer.write(b"data: [DONE]\n\n")
            self.tokens += n
            self.finished += 1
        finally:
            self.running -= 1


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, name):
        self.name = name.encode()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, source):
        if data:
            self.transport.sendto(self.name, source)


async def read_request(reader):
    """Method, path and body of one HTTP/1.1 request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    length = int(headers.get("content-length", 0))
    if length > BODY_MAX:
        raise ValueError("body too large")
    return method, path, await reader.readexactly(length)


def reply(writer, status, kind, body):
    writer.write(f"HTTP/1.1 {status} {'OK' if status == 200 else 'Refused'}\r\nContent-Type: {kind}\r\n"
                 f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)


def bind(kind, address, port):
    v6 = ":" in address
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(*((socket.IPPROTO_IPV6, IPV6_FREEBIND, 1) if v6 else (socket.IPPROTO_IP, IP_FREEBIND, 1)))
    s.bind((address, port))
    return s


async def main(name, places):
    engine = Engine(name)
    loop = asyncio.get_running_loop()
    for place in places:
        address, port = place.rsplit(":", 1)
        address = address.strip("[]")
        await asyncio.start_server(engine.serve, sock=bind(socket.SOCK_STREAM, address, int(port)), backlog=1024)
        await loop.create_datagram_endpoint(lambda: Datagrams(name), sock=bind(socket.SOCK_DGRAM, address, int(port)))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
