"""How the server refuses: a short plain text that repeats nothing of the request."""

from tests.wire import Reply

BROKEN = b"Broken JSON encoding."
MISSING = b"Payload expected."
TOO_LARGE = b"Payload too large.\n"
UNREADABLE = b"The request body cannot be read.\n"
SLOW = b"The request body did not arrive in time.\n"
NO_CALLBACK = b'"callback" parameter required'
BAD_CALLBACK = b'invalid "callback" parameter'
NOT_FOUND = b"Not found.\n"
UNKNOWN_SESSION = b"Unknown session.\n"
NO_ROUTE = b"404: Not Found"  # aiohttp's

STATUS = {
    BROKEN: 500,
    MISSING: 500,
    TOO_LARGE: 413,
    UNREADABLE: 400,
    SLOW: 408,
    NO_CALLBACK: 500,
    BAD_CALLBACK: 500,
    NOT_FOUND: 404,
    UNKNOWN_SESSION: 404,
    NO_ROUTE: 404,
}

HEADERS = {
    *("access-control-allow-origin", "access-control-allow-credentials", "vary"),
    *("cache-control", "connection", "content-length", "content-type", "date", "server"),
}
"""All that a refusal may have."""


def assert_refused(reply: Reply, text: bytes) -> None:
    """Make sure that `reply` is the refusal with `text`, and nothing but that."""
    assert (reply.status, reply.body) == (STATUS[text], text)
    assert (reply.header("Content-Type") or "").lower() == "text/plain; charset=utf-8"
    assert {name.lower() for name, _ in reply.headers} <= HEADERS


def assert_aiohttp_refused(reply: Reply, *, status: int = 400) -> None:
    """Make sure that `reply` is aiohttp's own refusal: plain, short, the last on its connection.

    It may repeat a line of the request, as plain text and with escapes like those of `repr`.
    """
    assert reply.status == status
    assert reply.header("Content-Type") == "text/plain; charset=utf-8"
    assert reply.header("Connection") in ("close", None if reply.version == "HTTP/1.0" else "close")
    assert len(reply.body) < 500
    assert b"Traceback" not in reply.body and b'File "' not in reply.body
