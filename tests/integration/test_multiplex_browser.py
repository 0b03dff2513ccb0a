"""Channels in a real browser: npm's websocket-multiplex as the client, and the example's page."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from examples import chat
from examples.multiplex import make_app
from examples.tornado.multiplex import make_app as make_tornado_app
from sockjs_aio import SockJSRouter
from sockjs_aio.multiplex import MultiplexConnection
from tests import clients
from tests.conftest import Recorder, require
from tests.integration.browser import SOCKJS_CLIENT, serving, visiting
from tests.integration.test_examples import running

MakeApp = Callable[[], web.Application]
pytestmark = pytest.mark.asyncio(loop_scope="session")
MULTIPLEX_CLIENT = SOCKJS_CLIENT.parents[2] / "websocket-multiplex/multiplex_client.js"
TRANSPORTS = ["websocket", "xhr-streaming", "iframe-eventsource", "xhr-polling", "jsonp-polling"]

PAGE = """<!doctype html>
<html><head><link rel="icon" href="data:,">
<script src="/sockjs.min.js"></script><script src="/multiplex_client.js"></script>
</head><body><script>
const seen = [];
const channels = {};
let socket, multiplexer;
function connect(transport) {
  socket = new SockJS("/multiplex", null, { transports: transport });
  multiplexer = new WebSocketMultiplex(socket);
}
function open(name) {
  const channel = channels[name] = multiplexer.channel(name);
  channel.onopen = () => seen.push([name, "open"]);
  channel.onmessage = (event) => seen.push([name, event.data]);
  channel.onclose = () => seen.push([name, "close"]);
}
</script></body></html>
"""


# npm's websocket-multiplex.


def make_client_app(**channels: Any) -> web.Application:
    """Make the application of a page with the client of websocket-multiplex."""
    app = web.Application()

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    def script(path: Path) -> Any:
        async def send(request: web.Request) -> web.FileResponse:
            return web.FileResponse(path)

        return send

    app.router.add_get("/", page)
    app.router.add_get("/sockjs.min.js", script(SOCKJS_CLIENT))
    app.router.add_get("/multiplex_client.js", script(MULTIPLEX_CLIENT))
    # a JSONP poll cannot be cut short: that its client has gone shows after a heartbeat
    delays = {"heartbeat_delay": 1, "disconnect_delay": 1}
    settings = {"sockjs_url": "/sockjs.min.js", **delays}
    SockJSRouter(MultiplexConnection.get(**channels), "/multiplex", settings).attach(app)
    return app


async def until_seen(page: Page, expected: list[list[str]]) -> None:
    """Wait until the page has seen what is expected, channel by channel, and nothing else."""
    script = f"seen.length >= {len(expected)}"
    await page.wait_for_function(script, timeout=10_000)
    seen = await page.evaluate("seen.splice(0)")
    assert sorted(seen, key=lambda entry: entry[0]) == expected


@pytest.mark.browser
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_client_of_websocket_multiplex(browser: Browser, transport: str) -> None:
    require(MULTIPLEX_CLIENT.is_file(), "npm's websocket-multiplex")

    class Ann(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            self.seen.append(message)
            self.send(message)
            if message == "close":
                self.close()

    class Bob(Ann):
        pass

    nasty = "x,,\u2603 \U0001f600,</script>%41,"
    app = make_client_app(**{"ann": Ann, "b\xf6b \u2603": Bob})
    async with serving(app) as port, visiting(browser, f"http://127.0.0.1:{port}/") as page:
        bob = "b\xf6b \u2603"
        await page.evaluate("connect", transport)
        for name in ("ann", bob, "nobody"):
            await page.evaluate("open", name)
        await until_seen(page, [["ann", "open"], [bob, "open"], ["nobody", "open"]])
        say = f"channels[name].send({json.dumps(nasty)})"
        for name in ("ann", bob, "nobody"):
            await page.evaluate(f"name => {say}", name)
        await until_seen(page, [["ann", nasty], [bob, nasty]])

        await page.evaluate("channels.ann.send('close')")
        await until_seen(page, [["ann", "close"], ["ann", "close"]])  # the message, the event
        await page.evaluate(
            f"name => channels[name].close() || {say.replace('name', '`ann`')}", bob
        )
        await until_seen(page, [[bob, "close"]])
        await Bob.until("close")
        assert (Ann.seen, Bob.seen) == (["open", nasty, "close", "close"], ["open", nasty, "close"])

        await page.evaluate("open('ann'), setTimeout(() => channels.ann.send('again'), 50)")
        await until_seen(page, [["ann", "open"], ["ann", "again"]])
        await page.evaluate("socket.close()")
        await Ann.until("close", 3)
    assert Ann.seen[4:] == ["open", "again", "close"]


# The example.


@asynccontextmanager
async def visited(browser: Browser, port: int, transport: str = "websocket") -> AsyncIterator[Page]:
    async with visiting(browser, f"http://127.0.0.1:{port}/?transport={transport}") as page:
        await expect(page.locator("#transport")).to_have_text(transport)
        yield page


async def say(page: Page, channel: str, text: str) -> None:
    await page.fill(f"#{channel} input", text)
    await page.press(f"#{channel} input", "Enter")


@pytest.mark.browser
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("make", [make_app, make_tornado_app], ids=["async", "tornado"])
async def test_example_has_three_channels(browser: Browser, make: MakeApp, transport: str) -> None:
    async with AsyncExitStack() as pages:
        port = await pages.enter_async_context(serving(make()))
        page = await pages.enter_async_context(visited(browser, port, transport))
        ann, bob, carl = (page.locator(f"#{name} li") for name in ("ann", "bob", "carl"))
        await expect(bob).to_have_text(["Bob's listeners: 1"])
        other = await pages.enter_async_context(visited(browser, port))
        await expect(bob).to_have_text(["Bob's listeners: 1", "Bob's listeners: 2"])
        await say(page, "ann", "a, <b>,")
        await expect(ann).to_have_text(["Ann says hi!", "a, <b>,", "Ann nods: a, <b>,"])
        await say(other, "bob", "news")
        await expect(bob.last).to_have_text("Bob has heard: news")
        await say(page, "carl", "stay")
        closed = "The server has closed this channel"
        await expect(carl).to_have_text(["stay", "Carl says goodbye to: stay", closed])
        await expect(page.locator("#carl")).to_have_attribute("data-open", "false")
        await page.click("#carl .toggle")
        await expect(page.locator("#carl")).to_have_attribute("data-open", "true")
        await other.click("#bob .toggle")
        await expect(bob.last).to_have_text("Bob's listeners: 1")
        await expect(other.locator("#bob li").last).to_have_text("You have left")
        await expect(other.locator("#ann")).to_have_attribute("data-open", "true")


@pytest.mark.browser
async def test_example_comes_back_after_the_server_was_away(browser: Browser) -> None:
    async with serving(make_app()) as port:
        visit = visited(browser, port)
        page = await visit.__aenter__()
        await expect(page.locator("#ann li")).to_have_count(1)
    await expect(page.locator("#state")).to_have_text("Disconnected")
    await expect(page.locator("#ann .toggle")).to_be_disabled()
    async with serving(make_app(), port):
        greetings = ["Ann says hi!", "The connection was lost", "Ann says hi!"]
        await expect(page.locator("#ann li")).to_have_text(greetings, timeout=15_000)
        await expect(page.locator("#ann .toggle")).to_be_enabled()
    await visit.__aexit__(None, None, None)


async def test_example_loads_from_the_cdn_where_there_is_no_file() -> None:
    async with serving(make_app(Path("missing"))) as port, aiohttp.ClientSession() as session:
        for path in ("/", "/multiplex/iframe.html"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                assert chat.script_tag(chat.CDN) in await response.text()


@pytest.mark.parametrize("module", ["examples.multiplex", "examples.tornado.multiplex"])
async def test_example_runs(unused_tcp_port: int, module: str) -> None:
    command = ["-m", module, "--port", str(unused_tcp_port)]
    async with running(unused_tcp_port, *command, prefix="") as served:
        assert b"SockJS channels" in (await served.request("GET", "/")).body
        for path in ("/page/multiplex.js", "/page/multiplex.css", "/style/chat.css"):
            assert (await served.request("GET", path)).status == 200
        served.prefix = "/multiplex"
        for kind in (clients.WebSocket, clients.Xhr):
            client = await kind.open(served)
            await client.send("sub,ann", "msg,ann,x", "sub,carl", "msg,carl,y", "msg,carl,z")
            answers = ["Ann says hi!", "Ann nods: x", "Carl says goodbye to: y"]
            expected = [f"msg,ann,{answers[0]}", f"msg,ann,{answers[1]}", f"msg,carl,{answers[2]}"]
            assert await client.messages(4) == [*expected, "uns,carl"]
            await client.leave()
