# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Stands in for the daemon: answers requests as a test says."""
import json
import os
import socket
import threading


class Script:
    """`answer` gets a request and returns {"result": ...}, {"error": ...}, bytes to send as they are, a function that sends to
    the client what it likes, or None: then nothing is sent, and the client may wait. Keeps the requests."""

    def __init__(self, path, answer):
        self.path, self.answer, self.requests = str(path), answer, []
        self.listener = None

    def __enter__(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self.serve, args=(self.listener,), daemon=True).start()
        return self

    def __exit__(self, *_):
        os.unlink(self.path)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self, listener):
        silent = []  # who waits for an answer goes on waiting
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                break
            line = client.makefile().readline()
            if not line:
                client.close()
                continue
            self.requests.append(json.loads(line))
            answer = self.answer(self.requests[-1])
            if answer is None:
                silent.append(client)
                continue
            try:
                if callable(answer):
                    answer(client)
                else:
                    client.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")
            except OSError:
                pass  # it has gone
            client.close()
        for client in silent:
            client.close()
