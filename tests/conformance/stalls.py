"""Connections that begin a request and never end it, watched in the background for the whole run.

They start with the first test and are judged by the last ones, so that the waiting costs no time of its own.
"""

import selectors
import socket
import threading
import time
from dataclasses import dataclass, field

from wire import head


@dataclass
class Stall:
    """One stalled connection: when it began, what came back, when the server ended it."""

    name: str
    data: bytes
    trickle: bytes = b""
    begun: float = 0.0
    received: bytes = b""
    ended: float | None = None
    done: threading.Event = field(default_factory=threading.Event)


class Stalls:
    """A watcher thread over all of them."""

    def __init__(self, server, key):
        half_body = b'{"name": "Acme'
        post = ("POST", "/customers", "Content-Type: application/json")
        stalls = [
            Stall("a connection that says nothing", b""),
            Stall("half a request line", b"GET /cust"),
            Stall("half a header", b"GET /customers HTTP/1.1\r\nHost: cuenta.example\r\nAuthor"),
            Stall("a header that trickles", b"GET /customers HTTP/1.1\r\nX-Slow: ", trickle=b"x"),
            Stall("a body with a length", head(*post, "Content-Length: 100", key=key) + half_body),
            Stall("a chunked body", head(*post, "Transfer-Encoding: chunked", key=key) + b"5\r\n{\"nam\r\n"),
        ]
        self.by_name = {stall.name: stall for stall in stalls}
        self._selector = selectors.DefaultSelector()
        self._open = True
        for stall in stalls:
            connection = socket.create_connection(server.address, 10)
            connection.setblocking(False)
            connection.send(stall.data)
            stall.begun = time.monotonic()
            self._selector.register(connection, selectors.EVENT_READ, stall)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        next_trickle = time.monotonic() + 1
        while self._open and self._selector.get_map():
            for key, _ in self._selector.select(0.25):
                self._receive(key.fileobj, key.data)
            if time.monotonic() >= next_trickle:
                next_trickle = time.monotonic() + 1
                for key in list(self._selector.get_map().values()):
                    if key.data.trickle:
                        try:
                            key.fileobj.send(key.data.trickle)
                        except OSError:
                            self._end(key.fileobj, key.data)

    def _receive(self, connection, stall):
        try:
            data = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        stall.received += data
        if not data:
            self._end(connection, stall)

    def _end(self, connection, stall):
        stall.ended = time.monotonic()
        self._selector.unregister(connection)
        connection.close()
        stall.done.set()

    def seconds(self, name, limit):
        """How long the server kept the connection, and what it said; fails when it keeps it beyond the limit."""
        stall = self.by_name[name]
        stall.done.wait(max(0, stall.begun + limit - time.monotonic()))
        assert stall.ended, f"{name}: still open after {limit} s"
        return stall.ended - stall.begun, stall.received

    def close(self):
        self._open = False
        self._thread.join(2)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()
