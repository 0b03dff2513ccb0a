"""The URLs without a session: greeting, info and iframe; and preflight requests.

Section of the protocol: "Base URL", "IFrame", "Info test".
"""

import hashlib
import json
import secrets

from aiohttp import web

from sockjs_aio.origins import frame_ancestors
from sockjs_aio.server.headers import HTML, JSON, YEAR, allow_origin, cached, uncached, vary
from sockjs_aio.server.responses import plain_response
from sockjs_aio.server.service import Service

# Differs from the protocol's page by `try`: in a sandboxed frame, setting document.domain throws.
_IFRAME = """\
<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{sockjs_url}"></script>
  <script>
    try {{ document.domain = document.domain; }} catch (e) {{}}
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"""


async def greeting(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE`` to show that the service is running."""
    return plain_response(200, "Welcome to SockJS!\n")


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


async def iframe(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE/iframe*.html``: the page in which the iframe transports run."""
    page = _IFRAME.format(sockjs_url=service.settings.sockjs_url.replace("&", "&amp;")).encode()
    etag = hashlib.sha256(page).hexdigest()[:32]
    known = request.if_none_match or ()
    if any(tag.value in (etag, "*") for tag in known):
        response = web.Response(status=304, headers=cached())
    else:
        response = web.Response(body=page, headers=cached(HTML))
        response.headers["X-Content-Type-Options"] = "nosniff"
        origins = service.settings.origins
        # a cache may serve the page to others, so the browser must check who embeds it
        if origins != "*":
            assert not callable(origins), "Settings disables the iframe page in this case"
            policy = f"frame-ancestors {frame_ancestors(origins)}"
            response.headers["Content-Security-Policy"] = policy
    response.etag = etag
    return response


def preflight(service: Service, request: web.Request, methods: str) -> web.StreamResponse:
    """Answer OPTIONS: allow a page of another origin to use `methods`."""
    response = web.Response(status=204, headers=cached())
    response.headers["Access-Control-Allow-Methods"] = methods
    response.headers["Access-Control-Max-Age"] = str(YEAR)
    allow_origin(request, response.headers)
    vary(response.headers, "Access-Control-Request-Headers")
    return response
