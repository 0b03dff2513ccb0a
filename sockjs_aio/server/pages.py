"""The pages without a session: greeting, info, iframe; and preflight requests.

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

# not the protocol's very bytes: in a frame with `sandbox` any page that sets document.domain throws
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
    """Answer ``GET BASE`` to show that the service is there."""
    return plain_response(200, "Welcome to SockJS!\n")


async def info(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE/info``: what the client has to know before it connects."""
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
    """Answer ``GET BASE/iframe*.html``: the page that the iframe transports run in."""
    page = _IFRAME.format(sockjs_url=service.settings.sockjs_url.replace("&", "&amp;")).encode()
    etag = hashlib.sha256(page).hexdigest()[:32]
    known = request.if_none_match or ()
    if any(tag.value in (etag, "*") for tag in known):
        response = web.Response(status=304, headers=cached())
    else:
        response = web.Response(body=page, headers=cached(HTML))
        response.headers["X-Content-Type-Options"] = "nosniff"
        origins = service.settings.origins
        if origins != "*":  # a cache may show the page to others than us
            assert not callable(origins), "there is no iframe page then: see Settings"
            policy = f"frame-ancestors {frame_ancestors(origins)}"
            response.headers["Content-Security-Policy"] = policy
    response.etag = etag
    return response


def preflight(service: Service, request: web.Request, methods: str) -> web.StreamResponse:
    """Answer OPTIONS: a page of another origin may send `methods`."""
    response = web.Response(status=204, headers=cached())
    response.headers["Access-Control-Allow-Methods"] = methods
    response.headers["Access-Control-Max-Age"] = str(YEAR)
    allow_origin(request, response.headers)
    vary(response.headers, "Access-Control-Request-Headers")
    return response
