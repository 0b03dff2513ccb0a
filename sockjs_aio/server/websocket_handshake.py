"""Checks WebSocket handshakes before a session is opened, and answers them.

Source: RFC 6455, section 4.2.
"""

import base64
import hashlib
import logging
import re
from collections.abc import Collection

from aiohttp import HttpVersion11, web

from sockjs_aio.protocol.deflate import Deflate, agree
from sockjs_aio.server.responses import plain_response

logger: logging.Logger = logging.getLogger("sockjs_aio.transports")

INVALID = "The WebSocket handshake is not valid."
NO_PROTOCOL = "None of the offered WebSocket subprotocols is supported."

PROTOCOL = "Sec-WebSocket-Protocol"
_EXTENSIONS = "Sec-WebSocket-Extensions"

_VERSION = "13"  # earlier versions send the origin in another header
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64
_MAX_EXTENSIONS = 1024  # characters
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455, section 1.3


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


def agreed_compression(request: web.Request) -> Deflate | None:
    """Return the first offer of permessage-deflate that we can accept, or None."""
    return agree(",".join(request.headers.getall(_EXTENSIONS, ())))


def handshake_response(
    request: web.Request, protocol: str | None, compression: Deflate | None
) -> web.StreamResponse:
    """Make the response to a valid handshake."""
    response = web.StreamResponse(status=101)
    response.headers["Upgrade"] = "websocket"
    response.headers["Connection"] = "upgrade"
    response.headers["Sec-WebSocket-Accept"] = accepted(request.headers["Sec-WebSocket-Key"])
    if compression is not None:
        response.headers[_EXTENSIONS] = str(compression)
    if protocol is not None:
        response.headers[PROTOCOL] = protocol
    response.force_close()
    return response


def accepted(key: str) -> str:
    """Return the value of ``Sec-WebSocket-Accept``."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


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
        and len(",".join(request.headers.getall(_EXTENSIONS, ()))) <= _MAX_EXTENSIONS
    )
