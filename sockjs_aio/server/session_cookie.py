"""The cookie ``JSESSIONID``, by which load balancers send a client to the same process again.

Section of the protocol: "JSESSIONID".
"""

import re

from aiohttp import web

from sockjs_aio.settings import Settings

# cookie-octets of RFC 6265, section 4.1.1; other characters are not echoed
_JSESSIONID = re.compile(r"(?:^|;)\s*JSESSIONID=([!#-+\--:<-\[\]-~]+)\s*(?:;|$)")


def set_session_cookie(
    request: web.Request, response: web.StreamResponse, settings: Settings
) -> None:
    """Set JSESSIONID if `Settings.jsessionid` asks for it: to the client's value, or ``dummy``."""
    if callable(settings.jsessionid):
        settings.jsessionid(request, response)
    elif settings.jsessionid:
        found = _JSESSIONID.search(request.headers.get("Cookie", ""))
        value = found[1] if found else "dummy"
        attributes = settings.jsessionid if isinstance(settings.jsessionid, str) else "Path=/"
        if "Path=" not in attributes:
            attributes = f"Path=/; {attributes}"
        response.headers.add("Set-Cookie", f"JSESSIONID={value}; {attributes}")
