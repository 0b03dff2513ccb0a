"""Whether a request is a WebSocket handshake; aiohttp's own refusal would repeat the headers.

What is checked here is refused before a session exists.  Source: RFC 6455, section 4.2.
"""

import re

from aiohttp import HttpVersion11, web

from sockjs_aio.transports.endpoint import plain_response

INVALID = "The WebSocket handshake is not valid."

_VERSION = "13"  # earlier ones have their origin in another header
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_MAX_EXTENSIONS = 1024  # characters; aiohttp fails at numbers of thousands of digits


def check_handshake(request: web.Request) -> web.Response | None:
    """Return the refusal of `request`; None if it is a handshake."""
    if request.headers.get("Upgrade", "").strip().lower() != "websocket":
        return refuse('Can "Upgrade" only to "WebSocket".')
    options = ",".join(request.headers.getall("Connection", ())).lower().split(",")
    if "upgrade" not in [option.strip() for option in options]:
        return refuse('"Connection" must be "Upgrade".')
    if request.headers.getall("Sec-WebSocket-Version", None) != [_VERSION]:
        response = refuse(INVALID)
        response.headers["Sec-WebSocket-Version"] = _VERSION
        return response
    return None if _is_valid(request) else refuse(INVALID)


def refuse(text: str) -> web.Response:
    """Make the answer to what is no handshake."""
    response = plain_response(400, text + "\n")
    response.force_close()
    return response


def _is_valid(request: web.Request) -> bool:
    keys = request.headers.getall("Sec-WebSocket-Key", ())
    return (
        request.version >= HttpVersion11
        and not request.body_exists  # it could be taken for frames
        and len(keys) == 1
        and _KEY.fullmatch(keys[0]) is not None
        and len(request.headers.get("Sec-WebSocket-Extensions", "")) <= _MAX_EXTENSIONS
    )
