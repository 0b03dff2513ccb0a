"""Checks WebSocket handshakes (RFC 6455, section 4.2) before a session is opened.

aiohttp checks them too, but later, and its refusals repeat the request's headers.
"""

import logging
import re
from collections.abc import Collection

from aiohttp import HttpVersion11, web

from sockjs_aio.server.responses import plain_response

logger = logging.getLogger("sockjs_aio")

INVALID = "The WebSocket handshake is not valid."
NO_PROTOCOL = "None of the offered WebSocket subprotocols is supported."

PROTOCOL = "Sec-WebSocket-Protocol"

_VERSION = "13"  # earlier versions send the origin in another header
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_MAX_EXTENSIONS = 1024  # characters; aiohttp fails on numbers with thousands of digits


def check_handshake(request: web.Request, protocols: Collection[str]) -> web.Response | None:
    """Return a refusal of `request`, or None if it is a valid handshake."""
    if request.headers.get("Upgrade", "").strip().lower() != "websocket":
        return refuse('Can "Upgrade" only to "WebSocket".')
    options = ",".join(request.headers.getall("Connection", ())).lower().split(",")
    if "upgrade" not in [option.strip() for option in options]:
        return refuse('"Connection" must be "Upgrade".')
    if request.headers.getall("Sec-WebSocket-Version", None) != [_VERSION]:
        response = refuse(INVALID)
        response.headers["Sec-WebSocket-Version"] = _VERSION
        return response
    if not _is_valid(request):
        return refuse(INVALID)
    # RFC 6455 lets a server accept none of them, but browsers, and ws on Node, then disconnect
    if PROTOCOL in request.headers and agreed_protocol(request, protocols) is None:
        logger.info(
            "refused a WebSocket: none of its subprotocols is in the setting `protocols`: %.200r",
            _offer(request),
        )
        return refuse(NO_PROTOCOL)
    return None


def agreed_protocol(request: web.Request, protocols: Collection[str]) -> str | None:
    """Return the first subprotocol that `request` offers and `protocols` contains, or None."""
    if PROTOCOL not in request.headers:
        return None
    offered = [name.strip(" \t") for name in _offer(request).split(",")]
    return next((name for name in offered if name in protocols), None)


def _offer(request: web.Request) -> str:
    return ",".join(request.headers.getall(PROTOCOL))


def refuse(text: str) -> web.Response:
    """Make the answer to an invalid handshake."""
    response = plain_response(400, text + "\n")
    response.force_close()
    return response


def _is_valid(request: web.Request) -> bool:
    keys = request.headers.getall("Sec-WebSocket-Key", ())
    return (
        request.version >= HttpVersion11
        and not request.body_exists  # a body could be read as frames
        and len(keys) == 1
        and _KEY.fullmatch(keys[0]) is not None
        and len(request.headers.get("Sec-WebSocket-Extensions", "")) <= _MAX_EXTENSIONS
    )
