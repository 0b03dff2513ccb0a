"""What one process tells another along with a request that it hands on, and what it leaves out.

The header is believed only where it comes in by the socket that the processes have for each other.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aiohttp import HttpVersion11, web

HEADER = "Sockjs-Relay"
_HEADER = HEADER.lower().encode()

# of one connection only (RFC 9110, section 7.6.1), or about the body's way here
_DROPPED = frozenset(
    b"connection keep-alive proxy-connection te trailer upgrade http2-settings "
    b"transfer-encoding content-length content-encoding expect".split()
)


class Purpose(enum.Enum):
    """Why a process turns to another one."""

    RELAY = "relay"  # answer it, or have your predecessor do it
    ANSWER = "answer"  # answer it
    FIND = "find"  # do you have its session?
    RELEASE = "release"  # end the response that its session has now, so that the client asks anew


@dataclass(frozen=True)
class Passport:
    """What the process at which a request has come in knows of it."""

    purpose: Purpose
    scheme: str
    remote: str

    def encode(self) -> str:
        """Return the header's value."""
        return f"{self.purpose.value} {self.scheme} {self.remote or '-'}"

    @classmethod
    def decode(cls, value: str) -> "Passport":
        """Read a header's value.

        Raises:
            ValueError: If it is none.
        """
        purpose, scheme, remote = value.split(" ", 2)
        return cls(Purpose(purpose), scheme, "" if remote == "-" else remote)


def request_head(
    request: web.Request, passport: Passport, *, is_last: bool, body_length: int | None
) -> bytes:
    """Write the head of `request` anew.

    Args:
        request: A request whose id in the path has been checked.
        passport: Goes along.
        is_last: Whether the connection to the client is to end with the response.
        body_length: Bytes of the body; None if nobody knows.
    """
    version = b"1.1" if request.version >= HttpVersion11 else b"1.0"
    lines = [b"%b %b HTTP/%b" % (request.method.encode(), _target(request), version)]
    lines += _kept(request.raw_headers)
    lines.append(f"{HEADER}: {passport.encode()}".encode())
    if is_last or not request.keep_alive or "Transfer-Encoding" in request.headers:
        lines.append(b"Connection: close")
    elif version == b"1.0":
        lines.append(b"Connection: keep-alive")
    if body_length is None:
        lines.append(b"Transfer-Encoding: chunked")
    elif body_length or request.method == "POST":
        lines.append(b"Content-Length: %d" % body_length)
    return b"\r\n".join((*lines, b"", b""))


def _target(request: web.Request) -> bytes:
    target = request.raw_path if request.raw_path[:1] == "/" else request.rel_url.raw_path_qs
    return target.encode("utf-8", "surrogateescape")


def _kept(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Return the headers that are for the other process.

    What ``Connection`` names is kept: this is one server to the client, which could otherwise have
    headers dropped that a proxy has added.
    """
    for name, value in headers:
        lowered = name.lower()
        if lowered in _DROPPED or lowered.startswith(_HEADER) or b"\n" in value or b"\r" in value:
            continue
        yield b"%b: %b" % (name, value)
