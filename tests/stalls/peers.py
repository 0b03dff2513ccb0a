"""Clients that block, for threads: what they do is not the server's loop."""

import gzip
import http.client
import socket
import struct

from tests.websocket_wire import HANDSHAKE

TIMEOUT = 20


def post(port: int, path: str, body: bytes, headers: dict[str, str] | None = None) -> int:
    """Return the status of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def ask(port: int, method: str, path: str, headers: dict[str, str]) -> None:
    """Send a request without a body, and wait for the first bytes of its answer."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(head.encode("latin-1"))
        connection.recv(1024)


def packed(body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body, and the header that says how it is compressed."""
    return gzip.compress(body), {"Content-Encoding": "gzip"}


class Peer:
    """A WebSocket."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        lines = [f"{name}: {value}" for name, value in HANDSHAKE.items()]
        head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", ""])
        self._socket.sendall(head.encode())
        self._file = self._socket.makefile("rb")
        assert b" 101 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass

    def send(self, opcode: int, *payloads: bytes) -> None:
        """Send frames, masked with zeros."""
        self._socket.sendall(b"".join(_frame(opcode, payload) for payload in payloads))

    def frame(self) -> tuple[int, bytes]:
        """Read a frame; opcode 8 stands for the end of the connection, too."""
        try:
            head = self._file.read(2)
            if len(head) < 2:
                return 8, b""
            size = head[1]
            if size == 126:
                size = int.from_bytes(self._file.read(2), "big")
            elif size == 127:
                size = int.from_bytes(self._file.read(8), "big")
            return head[0] & 0xF, self._file.read(size)
        except ConnectionError:
            return 8, b""

    def until(self, end: bytes) -> None:
        """Read up to a frame that ends so, or that closes."""
        while True:
            opcode, payload = self.frame()
            if opcode == 8 or payload.endswith(end):
                return

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload
