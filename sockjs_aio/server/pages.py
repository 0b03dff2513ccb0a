"""The pages and scripts of a service: greeting, iframe, script; and answers to preflight requests.

Section of the protocol: "Base URL", "IFrame".
"""

import functools
import hashlib
import importlib.resources

from aiohttp import web

from sockjs_aio.origins import frame_ancestors
from sockjs_aio.server.headers import (
    HOUR,
    HTML,
    JAVASCRIPT,
    PLAIN,
    YEAR,
    allow_origin,
    cached,
    vary,
)
from sockjs_aio.server.responses import plain_response
from sockjs_aio.server.service import Service
from sockjs_aio.settings import Settings

# Differs from the protocol's page by `try`: in a sandboxed frame, setting document.domain throws.
_IFRAME = """\
<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{sockjs_url}"{integrity}></script>
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

INTEGRITY = "sha384-svdnwiXBL+Js+yUneJSRFy24NgGiOfDM/vkQl/vCeVrcbYD6yW8EwPr1FnxTEZsR"
"""The hash of the script at the default `sockjs_url`: browsers run no other one from there."""


_CLASSIC = b"""\
"use strict";
{
%bglobalThis.ReconnectingSockJS = ReconnectingSockJS;
}
"""


async def greeting(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE`` to show that the service is running."""
    return plain_response(200, "Welcome to SockJS!\n")


async def iframe(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE/iframe*.html``: the page in which the iframe transports run."""
    response = _cacheable(request, _iframe_page(service.settings.sockjs_url), HTML, YEAR)
    origins = service.settings.origins
    # a cache may serve the page to others, so the browser must check who embeds it
    if response.status == 200 and origins != "*":
        assert not callable(origins), "Settings disables the iframe page in this case"
        policy = f"frame-ancestors {frame_ancestors(origins)}"
        response.headers["Content-Security-Policy"] = policy
    return response


def _iframe_page(sockjs_url: str) -> bytes:
    is_default = sockjs_url == Settings.sockjs_url
    integrity = f' integrity="{INTEGRITY}" crossorigin="anonymous"' if is_default else ""
    page = _IFRAME.format(sockjs_url=sockjs_url.replace("&", "&amp;"), integrity=integrity)
    return page.encode()


async def script(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``GET BASE/reconnecting-sockjs.*``: the script for pages, and its types."""
    kind = request.match_info["kind"]
    content_type = PLAIN if kind == "d.mts" else JAVASCRIPT
    response = _cacheable(request, _script(kind), content_type, HOUR)
    response.headers["Access-Control-Allow-Origin"] = "*"  # other sites may import the module
    return response


@functools.cache
def _script(kind: str) -> bytes:
    """Return the module (``mjs``), its types (``d.mts``), or the module as a script (``js``)."""
    if kind == "js":
        body, _, _ = _script("mjs").rpartition(b"export {")
        return _CLASSIC % body
    file = importlib.resources.files("sockjs_aio") / f"page/reconnecting-sockjs.{kind}"
    return file.read_bytes()


def _cacheable(request: web.Request, body: bytes, content_type: str, seconds: int) -> web.Response:
    """Answer with `body`, or with 304 if the client has it."""
    etag = hashlib.sha256(body).hexdigest()[:32]
    known = request.if_none_match or ()
    if any(tag.value in (etag, "*") for tag in known):
        response = web.Response(status=304, headers=cached(seconds=seconds))
    else:
        response = web.Response(body=body, headers=cached(content_type, seconds))
        response.headers["X-Content-Type-Options"] = "nosniff"
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
