"""What clients ask before they connect: ``GET BASE/info``.

Section of the protocol: "Info test".
"""

import json
import secrets

from aiohttp import web

from sockjs_aio.server.headers import JSON, allow_origin, uncached
from sockjs_aio.server.service import Service


async def info(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE/info``: what the client must know before it connects."""
    settings = service.settings
    answer = {
        "websocket": settings.is_enabled("websocket"),
        "cookie_needed": bool(settings.jsessionid),
        "origins": ["*:*"],
        "entropy": secrets.randbits(32),
    }
    if settings.base_url is not None:
        path, mark, query = settings.base_url.partition("?")
        answer["base_url"] = path.rstrip("/") + mark + query  # clients append a slash
    response = web.Response(body=json.dumps(answer).encode(), headers=uncached(JSON))
    allow_origin(request, response.headers)
    return response
