"""sockjs-client in a real browser, on a page of another origin, over each of its transports."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import async_timeout
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Error, Page

from sockjs_aio import SockJSRouter
from tests.conftest import Echo, Recorder
from tests.integration.browser import Client, make_page_app, serving, visiting
from tests.lanes import answered as answered

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

# iframe-htmlfile needs nothing special: without ActiveX, sockjs-client uses a plain iframe for it.
SOCKJS_TRANSPORTS = [
    "websocket",
    "xhr-streaming",
    "eventsource",
    "iframe-eventsource",
    "iframe-htmlfile",
    "xhr-polling",
    "iframe-xhr-polling",
    "jsonp-polling",
]
TRANSPORTS = ["raw", *SOCKJS_TRANSPORTS]

RANGES = [
    (0x0000, 0x001F),
    (0x007F, 0x009F),
    (0x200C, 0x200F),
    (0x2028, 0x202F),
    (0x2060, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFF),
]
SURROGATES = ["\ud800", "\udfff", "a\udc00b", "\udc00\ud800", "\ud83d \ude00", "\ud83d"]
AWKWARD = [
    "",
    "%41",
    "%",
    "%25%zz%e2%80%a8",
    "+ +",
    "</script>",
    "<!--",
    "<!--<script>",
    "]]>",
    "&lt;&#65;",
    '"',
    "'",
    "\\",
    '\\"',
    "\\u0041",
    "\r\n",
    'a["x"]',
    "\U0001f600\U0010ffff",
    "e\u0301\u00e9",
    *(chr(unit) for first, last in RANGES for unit in range(first, last + 1)),
    # each code unit there is, the surrogates too
    *("".join(map(chr, range(first, first + 1024))) for first in range(0, 0x10000, 1024)),
]

Serve = Callable[..., Awaitable["Service"]]


@dataclass
class Service:
    """A SockJS service that runs, on an origin that no page has."""

    router: SockJSRouter
    url: str


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page_port() -> AsyncIterator[int]:
    """The port of the server that has the page."""
    async with serving(make_page_app()) as port:
        yield port


@pytest_asyncio.fixture(loop_scope="session")
async def serve_page(page_port: int) -> AsyncIterator[Serve]:
    """Run a service for the page: ``await serve_page(Echo, response_limit=4096)``."""
    running = []

    async def run(connection: Any, port: int = 0, **settings: Any) -> Service:
        app = web.Application()
        settings["sockjs_url"] = f"http://127.0.0.1:{page_port}/sockjs.min.js"
        router = SockJSRouter(connection, "/some/service", settings)
        router.attach(app)
        running.append(serving(app, port))
        port = await running[-1].__aenter__()
        return Service(router, f"http://127.0.0.1:{port}/some/service")

    yield run
    for server in running:
        await server.__aexit__(None, None, None)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser, page_port: int) -> AsyncIterator[Page]:
    """A page for all tests, which each test loads again: another one would take its time."""
    async with visiting(browser, f"http://127.0.0.1:{page_port}/client.html") as page:
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def client(
    page: Page,
    page_port: int,
    serve_page: Serve,  # so that the page goes first
) -> AsyncIterator[Client]:
    await page.goto(f"http://127.0.0.1:{page_port}/client.html")
    yield Client(page)
    await page.goto("about:blank")


async def until_empty(service: Service) -> None:
    async with async_timeout.timeout(10):
        while service.router.session_count:
            await asyncio.sleep(0.01)


class Closing(Recorder):
    """Closes when it is told so."""

    async def on_message(self, message: str | bytes) -> None:
        await super().on_message(message)
        self.close(3456, "Enough, \u00e9nough")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_awkward_character_survives(
    serve_page: Serve, client: Client, transport: str
) -> None:
    service = await serve_page(Echo)
    assert await client.open(service.url, transport) == transport
    messages = [*AWKWARD, *SURROGATES]
    expected = messages
    if transport == "raw":  # the browser replaces lone surrogates before they leave
        expected = [replace_surrogates(message) for message in messages]
    received = await client.echo(messages)
    differences = [
        [list(map(hex, map(ord, text))) for text in pair]
        for pair in zip(expected, received, strict=True)
        if pair[0] != pair[1]
    ]
    assert not differences


def replace_surrogates(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_thousand_messages_come_back_in_order(
    serve_page: Serve, client: Client, transport: str
) -> None:
    service = await serve_page(Echo, response_limit=4096)  # several responses for each stream
    await client.open(service.url, transport)
    messages = [f"message {i}" for i in range(1000)]
    assert await client.echo(messages) == messages


@pytest.mark.parametrize(
    ("transport", "receiving"),
    [
        ("xhr-polling", "xhr"),
        ("xhr-streaming", "xhr_streaming"),
        ("eventsource", "eventsource"),
        ("iframe-xhr-polling", "xhr"),
    ],
)
async def test_direct_lane_understands_the_browser(
    serve_page: Serve, client: Client, answered: list[str], transport: str, receiving: str
) -> None:
    service = await serve_page(Echo, response_limit=100)
    await client.open(service.url, transport)
    for number in range(10):
        message = f"message {number}".ljust(100)
        assert await client.echo([message]) == [message]
    assert answered.count("xhr_send") >= 6
    assert answered.count(receiving) >= 6


@pytest.mark.parametrize("size", [100_000, 2_000_000])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_large_messages_come_back_whole(
    serve_page: Serve, client: Client, transport: str, size: int
) -> None:
    service = await serve_page(Echo, max_message_size=3 * size)
    await client.open(service.url, transport)
    assert await client.call("echoLarge", size)
    assert await client.echo(["and on"]) == ["and on"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_close_code_and_reason_reach_the_page(
    serve_page: Serve, client: Client, transport: str
) -> None:
    class C(Closing):
        pass

    service = await serve_page(C)
    await client.open(service.url, transport)
    await client.call("say", "close")
    assert await client.closed() == (3456, "Enough, \u00e9nough")
    await C.until("close")
    assert C.seen == ["open", "close", "close"]


# A JSONP poll cannot be cut short by the page: its end shows when a heartbeat brings no other poll.
SHORT_DELAYS = {"heartbeat_delay": 1, "disconnect_delay": 0.5, "session_check_interval": 0.1}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_server_notices_that_the_page_closes(
    serve_page: Serve, client: Client, transport: str
) -> None:
    class C(Recorder):
        pass

    service = await serve_page(C, **SHORT_DELAYS)
    await client.open(service.url, transport)
    await client.call("say", "hi")
    await C.until("hi")
    await client.call("close")
    assert (await client.closed())[0] in (1000, 1005)
    await C.until("close")
    await until_empty(service)
    assert C.seen == ["open", "hi", "close"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_server_notices_that_the_page_is_left(
    serve_page: Serve, client: Client, transport: str
) -> None:
    class C(Recorder):
        pass

    service = await serve_page(C, **SHORT_DELAYS)
    await client.open(service.url, transport)
    await client.call("say", "hi")
    await C.until("hi")
    await client.page.goto("about:blank")
    await C.until("close")
    await until_empty(service)
    assert C.seen == ["open", "hi", "close"]


@pytest.mark.parametrize("transport", SOCKJS_TRANSPORTS)
async def test_a_quiet_socket_lives_on_heartbeats(
    serve_page: Serve, client: Client, transport: str
) -> None:
    service = await serve_page(Echo, **{**SHORT_DELAYS, "heartbeat_delay": 0.2})
    await client.open(service.url, transport)
    await client.call("heartbeats", 2)
    assert await client.echo(["still there"]) == ["still there"]


DISABLED = ["websocket", "rawwebsocket", "xhr_streaming", "eventsource", "htmlfile", "xhr"]


@pytest.mark.parametrize(
    ("disabled", "transport"),
    [
        ([], "websocket"),
        (DISABLED[:2], "xhr-streaming"),
        (DISABLED[:3], "eventsource"),
        (DISABLED[:4], "iframe-htmlfile"),
        (DISABLED[:5], "xhr-polling"),
        (DISABLED, "jsonp-polling"),
    ],
)
async def test_page_falls_back_to_what_the_server_has(
    serve_page: Serve, client: Client, disabled: list[str], transport: str
) -> None:
    service = await serve_page(Echo, disabled_transports=disabled)
    assert await client.open(service.url) == transport
    assert await client.echo(["hi"]) == ["hi"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_page_of_an_allowed_origin_gets_in(
    serve_page: Serve, client: Client, page_port: int, unused_tcp_port: int, transport: str
) -> None:
    origins = [f"http://127.0.0.1:{page_port}"]
    if transport.startswith("iframe"):  # what the iframe asks for comes from the service's origin
        origins.append(f"http://127.0.0.1:{unused_tcp_port}")
    service = await serve_page(Echo, unused_tcp_port, origins=origins, allow_jsonp_and_frames=True)
    assert await client.open(service.url, transport) == transport
    assert await client.echo(["hi"]) == ["hi"]


async def test_page_of_another_origin_is_refused(
    serve_page: Serve, client: Client, page_port: int
) -> None:
    class C(Recorder):
        pass

    origins = [f"http://127.0.0.1:{page_port}"]
    service = await serve_page(C, origins=origins, allow_jsonp_and_frames=True)
    await client.page.goto(f"http://localhost:{page_port}/client.html")
    with pytest.raises(Error, match="closed: 1002,Cannot connect to server"):
        await client.open(service.url)
    # So are pages that do not ask for /info first, and those that hide where they come from.
    for path in ("xhr", "xhr_streaming", "eventsource", "htmlfile?c=x", "jsonp?c=x"):
        method = "POST" if path.startswith("xhr") else "GET"
        for is_hidden in (False, True):
            url = f"{service.url}/000/x/{path}"
            assert await status_of(client, url, "request", method, url, is_hidden) == 403
    url = f"{service.url}/iframe.html"
    assert await status_of(client, url, "frame", url) == 403
    with pytest.raises(Error, match="closed: 1006,"):
        await client.open(f"{service.url}/000/y", "raw")
    assert service.router.session_count == 0
    assert C.seen == []


async def status_of(client: Client, url: str, function: str, *arguments: Any) -> int:
    """Have the page request `url` by one of its functions; return what it may not see."""
    async with client.page.expect_response(url) as response:
        await client.call(function, *arguments)
    status: int = (await response.value).status
    return status
