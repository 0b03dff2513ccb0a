"""`python -m benchmarks.idle_clients PORT KIND FIRST COUNT`: opens sessions and keeps them idle.

It runs in its own process, so that its memory and CPU time are not counted as the server's.  KIND
is ``websocket``, ``xhr`` (a poll is waiting), ``direct`` (the same, in the direct lane) or
``between`` (the poll was answered and its connection closed).  Sessions are numbered from FIRST.
When all are open, it prints their number; it exits at the end of its input.
"""

import socket
import sys

HANDSHAKE = (
    "GET /echo/000/s{}/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SEND = "POST /echo/000/s{}/xhr_send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n[]"
POLL = "POST /echo/000/s{}/xhr HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


def open_session(port: int, kind: str, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    request = HANDSHAKE if kind == "websocket" else POLL
    connection.sendall(request.format(number).encode())
    receive(connection, b"\x01o", b"\r\n\r\no\n")
    if kind == "direct":
        connection.sendall(SEND.format(number).encode())
        receive(connection, b"\r\n\r\n")
    if kind in ("xhr", "direct"):
        connection.sendall(request.format(number).encode())
    elif kind == "between":
        connection.close()
    return connection


def receive(connection: socket.socket, *ends: bytes) -> None:
    """Read until one of `ends` has come."""
    received = b""
    while not received.endswith(ends):
        received += connection.recv(4096)


def main() -> None:
    kind = sys.argv[2]
    port, first, count = (int(sys.argv[index]) for index in (1, 3, 4))
    connections = [open_session(port, kind, number) for number in range(first, first + count)]
    print(len(connections), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
