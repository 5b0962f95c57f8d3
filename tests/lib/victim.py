#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A stub of an inference engine that is there to come to harm: it listens, has a worker, beats, and does what stdin says.

  victim.py PORT [resident=BYTES] [beat=SOCKET] [worker] [beside]

Prints "ready WORKER", its worker's process or 0, when it listens and can beat. Victims that are all `beside` share the port.
A line on stdin, each answered with a line of its own:
  exit N | segv (answered "at NS", CLOCK_MONOTONIC, just before) | close (the listener) | listen | health STATUS, or hang, garbage, megabytes, slow (of its GET answers)
  full STATUS (the same of GET /slots)
  exec (another program, which holds the listener) | eat BYTES (of memory) | worker (one more: answered "done WORKER") | reap (wait for one to end) | fork (a child that holds the listener for a minute at the most)
  asked (done when its health is asked the next time)
  catch (SIGTERM, and end with status 0) | linger (on SIGTERM close the listener, and go on) | stay (on SIGTERM go on as before)
The worker ends with the status of the signal SIGUSR1 (0) or SIGUSR2 (1), or when its parent does.
"""
import ctypes
import os
import pathlib
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools/examples"))
PR_SET_PDEATHSIG = 1


def worker():
    pid = os.fork()
    if pid:
        return pid
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
    signal.signal(signal.SIGUSR2, lambda *_: os._exit(1))
    while True:
        signal.pause()


class Victim:
    health = full = "200"

    def __init__(self, port, beside):
        self.port, self.beside = port, beside
        self.asked = threading.Event()

    def listen(self):
        self.socket = socket.create_server(("::", self.port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=self.beside, backlog=4096)
        threading.Thread(target=self.serve, args=(self.socket,), daemon=True).start()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, and nobody listens from here on
        self.socket.close()

    def serve(self, listener):
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(peer,), daemon=True).start()

    def answer(self, peer):
        try:
            health = self.full if peer.recv(4096).startswith(b"GET /slots") else self.health
            self.asked.set()
            if health == "hang":
                peer.recv(1)
            elif health == "garbage":
                peer.sendall(b"\x00\xff" * 512)
            elif health == "megabytes":
                peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    peer.sendall(bytes(1 << 20))
            elif health == "slow":
                peer.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
                peer.recv(1)
            else:
                peer.sendall(f"HTTP/1.1 {health} x\r\nContent-Length: 0\r\n\r\n".encode())
        except OSError:
            pass
        peer.close()


def beat_for_ever(beat):
    while True:
        beat()
        time.sleep(0.005)


def main(port, *options):
    options = dict(o.partition("=")[::2] for o in options)
    victim = Victim(int(port), "beside" in options)
    ballast = b"x" * int(options.get("resident", 0))
    child = worker() if "worker" in options else 0
    if "beat" in options:
        from beat import Beat
        threading.Thread(target=beat_for_ever, args=(Beat(options["beat"]),), daemon=True).start()
    victim.listen()
    print("ready", child, flush=True)
    for line in sys.stdin:
        verb, _, value = line.strip().partition(" ")
        if verb == "exit":
            os._exit(int(value))
        elif verb == "segv":
            print("at", time.monotonic_ns(), flush=True)
            ctypes.string_at(1)
        elif verb == "close":
            victim.close()
        elif verb == "listen":
            victim.listen()
        elif verb == "health":
            victim.health = value
        elif verb == "full":
            victim.full = value
        elif verb == "exec":
            victim.socket.set_inheritable(True)
            os.execv(sys.executable, [sys.executable, "-c", "print('done', flush=True); import signal; signal.pause()"])
        elif verb == "worker":
            print("done", worker(), flush=True)
            continue
        elif verb == "reap":
            os.wait()
        elif verb == "eat":
            ballast += b"x" * int(value)
        elif verb == "fork" and not os.fork():
            signal.alarm(60)
            signal.pause()
        elif verb == "asked":
            victim.asked.clear()
            victim.asked.wait(30)
        elif verb == "catch":
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        elif verb == "linger":
            signal.signal(signal.SIGTERM, lambda *_: victim.close())
        elif verb == "stay":
            signal.signal(signal.SIGTERM, lambda *_: None)
        print("done", flush=True)
    return len(ballast)


if __name__ == "__main__":
    main(*sys.argv[1:])
