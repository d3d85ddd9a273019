"""HTTP byte by byte, for requests that no library would send. Every wait has a limit: a hang is a failure."""

import socket
import struct
from dataclasses import dataclass

from contract import VERSION


class Hang(AssertionError):
    """The server neither answered nor closed the connection in time."""


@dataclass
class Reply:
    """One answer as it came."""

    status: int
    headers: list
    body: bytes

    def header(self, name):
        found = [value for header, value in self.headers if header.lower() == name.lower()]
        return found[0] if found else None


class Wire:
    """One connection."""

    def __init__(self, address, timeout=20):
        self.timeout = timeout
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends; a server that has already hung up is no error of ours."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def finish(self):
        """Says that nothing more will be sent, and keeps listening."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return self

    def reset(self):
        """Hangs up at once, without the politeness of TCP."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _more(self):
        """More bytes; false at the end."""
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return False
        except TimeoutError:
            raise Hang(f"no answer and no end within {self.timeout} s; so far {self._buffer[:200]!r}") from None
        self._buffer += data
        return bool(data)

    def reply(self, to_head=False):
        """The next final answer; None when the connection ends before one."""
        while True:
            while b"\r\n\r\n" not in self._buffer:
                if not self._more():
                    return None
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            first, *rest = head.decode("latin-1").split("\r\n")
            version, status = first.split(" ", 2)[:2]
            assert version in {"HTTP/1.1", "HTTP/1.0"}, f"not an HTTP/1 answer: {head[:200]!r}"
            headers = [tuple(part.strip() for part in line.split(":", 1)) for line in rest]
            reply = Reply(int(status), headers, b"")
            if reply.status >= 200:
                break
        if to_head or reply.status in {204, 304}:
            return reply
        if (reply.header("transfer-encoding") or "").lower() == "chunked":
            reply.body = self._chunks()
        elif reply.header("content-length") is not None:
            reply.body = self._exactly(int(reply.header("content-length")))
        else:
            while self._more():
                pass
            reply.body, self._buffer = self._buffer, b""
        return reply

    def continues(self):
        """Waits for `100 Continue`: the server has begun to read the body."""
        while b"\r\n\r\n" not in self._buffer:
            assert self._more(), "the connection ended instead of 100 Continue"
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 100"), head[:200]

    def _exactly(self, length):
        while len(self._buffer) < length:
            assert self._more(), f"the body ended after {len(self._buffer)} of {length} bytes"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _chunks(self):
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                assert self._more(), "a chunked body without an end"
            size, self._buffer = self._buffer.split(b"\r\n", 1)
            chunk = self._exactly(int(size, 16))
            assert self._exactly(2) == b"\r\n"
            if not chunk:
                return body
            body += chunk

    def closed(self):
        """Whether the server hangs up, within the time limit."""
        try:
            while self._more():
                pass
        except Hang:
            return False
        return True


def head(method, target, *headers, key=None, host=True, version="HTTP/1.1"):
    """A request head. Headers are texts or bytes, `Name: value`; Host, key and version come first."""
    lines = [f"{method} {target} {version}".encode("latin-1")]
    if host:
        lines.append(b"Host: cuenta.example")
    if key:
        lines += [f"Authorization: Bearer {key}".encode(), f"Alguna-Version: {VERSION}".encode()]
    lines += [line if isinstance(line, bytes) else line.encode("latin-1") for line in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def write(method, target, body, *headers, key=None, **options):
    """A request with a JSON body."""
    return head(
        method, target, "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, key=key, **options
    ) + body


def exchange(address, *data, timeout=20, finish=False):
    """Sends the pieces and gives every answer until the connection ends or one answer has come."""
    with Wire(address, timeout) as wire:
        for piece in data:
            wire.send(piece)
        if finish:
            wire.finish()
        return wire.reply()
