"""What a page with ReconnectingSockJS decides: when it tries again, and when it gives up."""

import asyncio
from collections.abc import AsyncIterator

import async_timeout
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Route

from sockjs_aio import Settings, SockJSRouter
from tests.integration.browser import SOCKJS_CLIENT, make_page_app, serving, visiting
from tests.integration.reconnecting_page import (
    QUICK,
    Client,
    Talker,
    serving_talker,
    talking,
    visited,
    visited_by_itself,
)
from tests.ports import free_port
from tests.test_docs import ROOT, blocks

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CLOSED = 3


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page_url() -> AsyncIterator[str]:
    """The server that has the page."""
    async with serving(make_page_app()) as port:
        yield f"http://127.0.0.1:{port}"


async def test_each_attempt_has_a_url_of_its_own(browser: Browser, page_url: str) -> None:
    tokens: list[str] = []

    async def authorize(request: web.Request) -> bool:
        tokens.append(request.query["token"])
        return True

    async with talking(browser, page_url, authorize=authorize) as (client, url):
        urls = [f"{url}?token=1", "Error: no token", f"{url}?token=2"]
        await client.open(urls, "websocket")
        await client.call("say", "close 1012")
        loss = await client.take("reconnecting")
        assert (loss["code"], loss["attempt"], loss["error"]) == (1012, 1, None)
        loss = await client.take("reconnecting")
        assert (loss["code"], loss["reason"]) == (1006, "no token")
        assert (loss["attempt"], loss["error"]) == (2, "no token")
        await client.comes_back()
        assert await client.page.evaluate("socket.url") == f"{url}?token=2"
    assert tokens == ["1", "2"]


@pytest.mark.parametrize("code", [1000, 3000, 4001])
async def test_codes_of_the_application_end_the_socket(
    browser: Browser, page_url: str, code: int
) -> None:
    async with talking(browser, page_url) as (client, url):
        await client.open(url)
        await client.call("say", f"close {code}")
        end = await client.take("close")
        assert (end["code"], end["reason"], end["wasClean"]) == (code, "as told", True)
        assert end["state"] == CLOSED
        await client.call("say", "into the void")
        assert await client.seen() == []


@pytest.mark.parametrize("code", [1008, 1011, 1012, 2010])
async def test_page_comes_back_after_other_codes(
    browser: Browser, page_url: str, code: int
) -> None:
    async with talking(browser, page_url) as (client, url):
        await client.open(url)
        await client.call("say", f"close {code}")
        assert (await client.take("reconnecting"))["code"] == code
        await client.comes_back()


@pytest.mark.parametrize(
    ("transport", "code", "reason"),
    [
        ("websocket", 1009, ""),
        ("xhr-polling", 1006, "Sending error: Error: http status 413"),
    ],
)
async def test_page_is_told_that_its_message_is_too_big(
    browser: Browser, page_url: str, transport: str, code: int, reason: str
) -> None:
    async with talking(browser, page_url, max_message_size=1000) as (client, url):
        await client.open(url, transport)
        await client.call("say", "x" * 1001)
        loss = await client.take("reconnecting")
        assert (loss["code"], loss["reason"]) == (code, reason)
        await client.comes_back()


async def test_page_sees_a_refusal_as_2000_and_tries_again(browser: Browser, page_url: str) -> None:
    answers = [False] * 20

    async def authorize(request: web.Request) -> bool:
        return answers.pop() if answers else True

    async with talking(browser, page_url, authorize=authorize) as (client, url):
        await client.call("start", url, {"transports": ["websocket", "xhr-polling"], **QUICK})
        loss = await client.take("reconnecting")
        assert (loss["code"], loss["reason"]) == (2000, "All transports failed")
        answers.clear()
        await client.take("open")


async def test_page_gives_up_when_it_says_so(browser: Browser, page_url: str) -> None:
    async with talking(browser, page_url) as (client, _):
        away = f"http://127.0.0.1:{free_port()}/talk"
        retry = "{ retry: ({ code, attempt }) => code === 1002 && attempt < 3, minDelay: 1 }"
        await client.page.evaluate(f"start('{away}', {retry})")
        for attempt in (1, 2):
            assert (await client.take("reconnecting"))["attempt"] == attempt
        end = await client.take("close")
        assert (end["code"], end["reason"]) == (1002, "Cannot connect to server")


async def test_retry_that_raises_ends_the_socket(browser: Browser, page_url: str) -> None:
    async with talking(browser, page_url) as (client, url):
        await client.page.evaluate(
            """url => {
                addEventListener("error", (event) => event.preventDefault());
                start(url, { retry: () => { throw new Error("a bug of the page"); } });
            }""",
            url,
        )
        await client.take("open")
        await client.call("say", "close 1012")
        assert (await client.take("close"))["code"] == 1012


@pytest.mark.parametrize("answer", ["true", "false"])
async def test_retry_may_close_the_socket(browser: Browser, page_url: str, answer: str) -> None:
    async with talking(browser, page_url) as (client, url):
        await client.page.evaluate(
            f"start('{url}', {{ minDelay: 1, restartDelay: 1, retry: () => "
            f"{{ socket.close(4000, 'enough'); return {answer}; }} }})"
        )
        await client.take("open")
        await client.call("say", "close 1012")
        end = await client.take("close")
        assert (end["code"], end["reason"], end["state"]) == (4000, "enough", CLOSED)
        await client.page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
        assert await client.seen() == []


async def test_retry_may_connect_again_at_once(browser: Browser, page_url: str) -> None:
    async with (
        serving_talker(page_url) as (url, router),
        visited(browser, page_url, url) as client,
    ):
        await client.page.evaluate(
            f"start('{url}', {{ retry: () => {{ socket.reconnect(); return true; }} }})"
        )
        await client.take("open")
        await client.call("say", "close 1012")
        assert (await client.take("open"))["isReconnect"]
        assert await client.seen() == []
        assert router.session_count == 1


async def test_waits_grow_and_start_again_after_a_good_connection(
    browser: Browser, page_url: str
) -> None:
    port = free_port()
    waits = {"minDelay": 20, "maxDelay": 50, "restartDelay": 30}
    async with visited_by_itself(browser, page_url) as client:
        await client.page.evaluate("Math.random = () => 1")  # each wait is as long as it may be
        await client.call("start", f"http://127.0.0.1:{port}/talk", waits)
        lost = [await client.take("reconnecting") for _ in range(4)]
        assert [loss["attempt"] for loss in lost] == [1, 2, 3, 4]
        assert [loss["delay"] for loss in lost] == [20, 40, 50, 50]
        async with serving_talker(page_url, port=port):
            await client.take("open")
            await client.call("say", "close 1012")
            loss = await client.take("reconnecting")
            assert (loss["attempt"] >= 5, loss["delay"]) == (True, 50)  # it was open for too short
            await client.take("open")
            await client.page.evaluate("{ const now = Date.now; Date.now = () => now() + 10_000; }")
            await client.call("say", "close 1012")
            loss = await client.take("reconnecting")
            assert (loss["attempt"], loss["delay"]) == (1, 30)
            await client.comes_back()


async def test_function_that_never_makes_a_url_is_called_again(
    browser: Browser, page_url: str
) -> None:
    async with (
        serving_talker(page_url) as (url, _),
        visited_by_itself(browser, page_url) as client,
    ):
        await client.call("start", ["never", url], {"silence": 100, **QUICK})
        loss = await client.take("reconnecting")
        assert (loss["code"], loss["reason"]) == (1006, "Nothing was heard from the server")
        await client.take("open")


async def test_close_during_a_wait_ends_it(browser: Browser, page_url: str) -> None:
    async with (
        serving_talker(page_url) as (url, router),
        visited(browser, page_url, url) as client,
    ):
        await client.open(url, minDelay=100, restartDelay=100)
        await client.page.evaluate("Math.random = () => 1")
        await client.call("say", "close 1012")
        await client.take("reconnecting")
        await client.call("socket.close.bind(socket)", 4000, "enough")
        end = await client.take("close")
        assert (end["code"], end["reason"], end["wasClean"]) == (4000, "enough", True)
        # a wait that began later, and as long, is over
        await client.page.evaluate("new Promise((resolve) => setTimeout(resolve, 150))")
        assert await client.seen() == []
        assert router.session_count == 0


async def test_messages_wait_for_the_connection_behind_those_of_onopen(
    browser: Browser, page_url: str
) -> None:
    async with talking(browser, page_url) as (client, url):
        refused = await client.page.evaluate(
            """url => {
                start(url, { queueLimit: 10 });
                socket.addEventListener("open", () => socket.send("hello"));
                socket.send("12345");
                socket.send("67890");
                try {
                    socket.send("x");
                } catch (error) {
                    return error.message;
                }
            }""",
            url,
        )
        assert refused == "Not connected, and queueLimit (10) is reached"
        texts = [(await client.take("message"))["data"] for _ in range(3)]
        assert texts == ["hello", "12345", "67890"]
        assert await client.call("echo", "and on") == "and on"


async def test_page_may_connect_again_by_itself(browser: Browser, page_url: str) -> None:
    async with talking(browser, page_url) as (client, url):
        await client.open(url, restartDelay=2**30)
        await client.page.evaluate("socket.reconnect()")  # instead of the connection
        await client.comes_back()
        await client.call("say", "close 1012")
        await client.take("reconnecting")
        await client.page.evaluate("socket.reconnect()")  # instead of the wait
        await client.comes_back()
        await client.call("socket.close.bind(socket)")
        await client.take("close")
        await client.page.evaluate("socket.reconnect()")
        assert await client.page.evaluate("socket.readyState") == CLOSED


# The page's side of the script.


async def test_module_and_script_are_the_same(browser: Browser, page_url: str) -> None:
    async with (
        serving_talker(page_url) as (url, _),
        visiting(browser, f"{page_url}/reconnecting.html") as page,
    ):
        client = Client(page)
        assert await page.evaluate("typeof ReconnectingSockJS") == "undefined"
        assert await client.call("load", f"{url}/reconnecting-sockjs.mjs") is True
        await client.open(url)
        module = await page.evaluate("String(ReconnectingSockJS)")
        await page.add_script_tag(url=f"{url}/reconnecting-sockjs.js")
        assert await page.evaluate("String(ReconnectingSockJS)") == module
        assert await page.evaluate("socket instanceof ReconnectingSockJS") is False  # another one


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("'ftp://x.example'", "SyntaxError: The URL's scheme must be"),
        ("'/talk', null, { silence: -1 }", "TypeError: silence must be a number, 0 or above"),
        ("'/talk', null, { maxDelay: 'x' }", "TypeError: maxDelay must be a number, 0 or above"),
        ("'/talk', null, (delete window.SockJS, {})", "Error: There is no SockJS: load"),
    ],
)
async def test_mistakes_are_told_at_once(
    browser: Browser, page_url: str, arguments: str, error: str
) -> None:
    async with talking(browser, page_url) as (client, _):
        told = await client.page.evaluate(
            f"(() => {{ try {{ new ReconnectingSockJS({arguments}); }}"
            " catch (error) { return String(error); } })()"
        )
        assert told.startswith(error)


@pytest.mark.parametrize("name", ["README.md", "docs/client.md"])
async def test_page_of_the_documentation_connects(browser: Browser, name: str) -> None:
    (html,) = blocks(ROOT / name, "html")
    lines: asyncio.Queue[str] = asyncio.Queue()

    async def from_the_cdn(route: Route) -> None:
        await route.fulfill(path=SOCKJS_CLIENT, headers={"Access-Control-Allow-Origin": "*"})

    async def shown(request: web.Request) -> web.Response:
        text = html.replace("127.0.0.1:8080", request.host)
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    SockJSRouter(Talker, "/echo").attach(app)
    app.router.add_get("/shown", shown)
    async with serving(app) as port, visiting(browser, "about:blank") as page:
        await page.route(Settings.sockjs_url, from_the_cdn)  # whose hash the browser checks
        page.on("console", lambda message: lines.put_nowait(message.text))
        await page.goto(f"http://127.0.0.1:{port}/shown")
        async with async_timeout.timeout(20):
            while (line := await lines.get()) != "Hello!":
                assert "favicon" in line or "404" in line


@pytest.mark.parametrize("is_genuine", [True, False])
async def test_iframe_page_runs_only_the_genuine_script_of_the_cdn(
    browser: Browser, page_url: str, is_genuine: bool
) -> None:
    script = SOCKJS_CLIENT.read_text() + ("" if is_genuine else " ")

    async def from_the_cdn(route: Route) -> None:
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
        await route.fulfill(body=script, headers=headers)

    app = web.Application()
    SockJSRouter(Talker, "/echo").attach(app)
    async with serving(app) as port:
        url = f"http://127.0.0.1:{port}/echo"
        context = await browser.new_context()  # the iframe page misses its script: an error
        page = await context.new_page()
        await page.route(Settings.sockjs_url, from_the_cdn)
        await page.goto(f"{page_url}/reconnecting.html")
        await page.add_script_tag(url=f"{url}/reconnecting-sockjs.js")
        client = Client(page)
        options = {"transports": "iframe-xhr-polling", "timeout": 2000, **QUICK}
        await client.call("start", url, options)
        if is_genuine:
            await client.take("open")
        else:
            assert (await client.take("reconnecting"))["code"] == 2000
        await context.close()
