"""A TCP proxy between a client and the server that fails on command.

It forwards whole requests, one upstream connection each, and lets a script decide what becomes of every write.
"""

import json
import re
import socket
import threading
from urllib.parse import urlsplit

PASS = "pass"  # forward, answer
DROP_ANSWER = "drop answer"  # forward, wait for the whole answer, then hang up without a word
DROP_REQUEST = "drop request"  # hang up before anything is forwarded


def answer(status, reason, *headers):
    """A scripted answer that never reaches the server."""
    body = json.dumps({"status": status, "detail": reason}).encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "X-From-Proxy: yes",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class FlakyProxy:
    """Applies the script to the writes that pass, in order; reads and everything after the script pass."""

    def __init__(self, upstream, *script):
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname, parts.port)
        self._script = list(script)
        self._lock = threading.Lock()
        self.writes = []  # (request line, Idempotency-Key) of every write seen
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    @property
    def keys(self):
        return [key for _, key in self.writes]

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client):
        client.settimeout(30)
        with client:
            request = self._read_request(client)
            if request is None:
                return
            action = self._action(request)
            if action == DROP_REQUEST:
                return
            if isinstance(action, bytes):
                client.sendall(action)
                return
            response = self._forward(request)
            if action == PASS:
                client.sendall(response)

    def _action(self, request):
        line = request.split(b"\r\n", 1)[0].decode("latin-1")
        if line.startswith("GET "):
            return PASS
        key = re.search(rb"(?im)^idempotency-key: *(.*?)\r$", request)
        with self._lock:
            self.writes.append((line, key and key[1].decode("latin-1")))
            return self._script.pop(0) if self._script else PASS

    @staticmethod
    def _read_request(client):
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                return None
            data += more
        head, body = data.split(b"\r\n\r\n", 1)
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            body += client.recv(65536)
        head = re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n")
        return head + b"Connection: close\r\n\r\n" + body

    def _forward(self, request):
        """The whole answer: once it is here, the server has committed."""
        with socket.create_connection(self._upstream, 30) as server:
            server.sendall(request)
            response = b""
            while more := server.recv(65536):
                response += more
        return response
