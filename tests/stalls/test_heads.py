"""Heads of requests: headers, queries, ids."""

import asyncio
import itertools

import pytest

from tests.conftest import Serve
from tests.stalls.peers import ask
from tests.stalls.rooms import Silent
from tests.stalls.throwing import Thrower
from tests.websocket_wire import HANDSHAKE

# Heads of requests.

LONG = 8000

FAST = {"heartbeat_delay": 0.05}
"""Polls that wait are answered soon."""

FILLERS = {
    "letters": "a" * LONG,
    "blanks": "a" + " " * LONG + "a",
    "semicolons": ";" * LONG,
    "cookies": "JSESSIONID=" * (LONG // 11),
    "cookies-and-blanks": "; JSESSIONID=a " * (LONG // 16),
    "quotes": '"' * LONG,
    "escaped-quotes": '"' + '\\"' * (LONG // 2),
    "commas": ",".join("a" * (LONG // 2)),
    "brackets": "http://[" + "[" * LONG,
    "slashes": "/" * LONG,
    "at-signs": "http://" + "@" * LONG,
    "colons": "http://a:" + ":" * LONG,
    "digits": "http://a:" + "9" * LONG,
    "percents": "%" * LONG,
    "latin": "\xe9" * LONG,
}
HEADERS = [
    *("Cookie", "Origin", "Referer", "Content-Type", "Accept-Encoding", "X-Forwarded-For"),
    *("Sec-Fetch-Site", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Range", "Expect"),
    *("Access-Control-Request-Headers", "If-None-Match", "Connection", "Authorization"),
]
QUERIES = {
    "letters": "c=" + "a" * LONG,
    "pairs": "&".join(["c"] * (LONG // 2)),
    "escapes": "c=" + "%41" * (LONG // 3),
    "percents": "%" * LONG,
    "escaped-names": "%63%3d&" * (LONG // 7),
}
IDS = ["%41" * 85, "%2541" * 50, "a" * 3000, "%E2%80%8C" * 300, "%" * 256]


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
async def test_long_headers_do_not_hold_up_the_loop(
    throw: Thrower, serve: Serve, filler: str
) -> None:
    settings = {"jsessionid": True, "origins": ["https://example.com"]}
    served = await serve(Silent, settings={**settings, **FAST, "allow_jsonp_and_frames": True})
    numbers = itertools.count()
    ends = ("POST xhr", "GET eventsource", "GET jsonp?c=x", "POST xhr_send", "OPTIONS xhr")

    def exchange() -> None:
        for header in HEADERS:
            for end in (*ends, "GET websocket"):
                method, _, path = end.partition(" ")
                upgrade = HANDSHAKE if path == "websocket" else {}
                ask(
                    served.port,
                    method,
                    f"/echo/0/{next(numbers)}/{path}",
                    {**upgrade, header: filler},
                )
            ask(served.port, "GET", "/echo/info", {header: filler})

    await throw(lambda: asyncio.to_thread(exchange))


async def test_long_urls_do_not_hold_up_the_loop(throw: Thrower, serve: Serve) -> None:
    served = await serve(Silent, settings=FAST)
    urls = [
        f"/echo/0/1/{end}?{query}" for end in ("jsonp", "htmlfile") for query in QUERIES.values()
    ]
    urls += [f"/echo/{server}/{name}/xhr" for server in ("0", *IDS) for name in IDS]
    urls += ["/echo/iframe-" + "-" * LONG, "/echo/iframe" + "-.html" * (LONG // 6), "/" * LONG]

    def exchange() -> None:
        for url in urls:
            ask(served.port, "GET", url, {})
            ask(served.port, "POST", url, {})

    await throw(lambda: asyncio.to_thread(exchange))
