"""The chat example: its page in a real browser, its server as a process of its own."""

import asyncio
import gc
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import async_timeout
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from examples import chat
from examples.chat import CDN, NAME_LENGTH, TEXT_LENGTH, make_app
from sockjs_aio import SockJSRouter
from tests.integration.browser import serving, visiting
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROOT = Path(__file__).parents[2]


# The page.


@asynccontextmanager
async def joined(
    browser: Browser, port: int, name: str, transport: str = ""
) -> AsyncIterator[Page]:
    """Open the page, give a name, and force `transport`, unless it is empty."""
    async with visiting(browser, f"http://127.0.0.1:{port}/") as page:
        await page.fill("#name", name)
        await page.click("#welcome button")
        if transport:  # choosing leaves and comes back, even if it was chosen before
            await page.select_option("#force", transport)
        await expect(page.locator("#transport")).to_have_text(transport or "websocket")
        await expect(page.locator("#people .me .who")).to_have_text(name)
        yield page


async def say(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.press("#text", "Enter")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("transport", "server_name"),
    [
        ("", "websocket"),
        ("xhr-streaming", "xhr-streaming"),
        ("iframe-htmlfile", "htmlfile"),
        ("xhr-polling", "xhr"),
        ("jsonp-polling", "jsonp"),
    ],
)
async def test_two_people_talk(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, transport: str, server_name: str
) -> None:
    monkeypatch.setattr(chat, "RETURN_DELAY", 0.1)
    nasty = "<b>bold</b> </script> %41 \u2603 \U0001f600"
    async with serving(make_app()) as port, joined(browser, port, "Ada", transport) as ada:
        await say(ada, "Is anybody here?")
        async with joined(browser, port, "Grace <i>") as grace:
            await expect(ada.locator("#count")).to_have_text("2")
            await expect(ada.locator("#people .who")).to_have_text(["Ada", "Grace <i>"])
            await expect(ada.locator("#people code")).to_have_text([server_name, "websocket"])
            await expect(grace.locator("#people .who")).to_have_text(["Grace <i>", "Ada"])
            await say(grace, nasty)
            await expect(ada.locator(".text")).to_have_text(["Is anybody here?", nasty])
            await say(ada, "Hello!")
            for page in (ada, grace):
                await expect(page.locator(".text").last).to_have_text("Hello!")
            await expect(grace.locator(".mine .text")).to_have_text([nasty])
        await expect(ada.locator("#people .who")).to_have_text(["Ada"])
        await expect(ada.locator(".notice").last).to_have_text("Grace <i> left")


@pytest.mark.browser
async def test_name_and_transport_can_be_changed(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "RETURN_DELAY", 60)
    async with serving(make_app()) as port, joined(browser, port, "Ada") as ada:
        await say(ada, "before")
        await ada.click(".rename")
        await ada.fill("#name", "Lady Lovelace")
        await ada.press("#name", "Enter")
        await expect(ada.locator("#people .who")).to_have_text(["Lady Lovelace"])
        notices = await ada.locator(".notice").all_text_contents()
        assert notices == ["Ada joined", "Ada is now Lady Lovelace"]
        for transport in ("jsonp-polling", "iframe-eventsource"):
            await ada.select_option("#force", transport)
            await expect(ada.locator("#transport")).to_have_text(transport)
            await expect(ada.locator("#people .who")).to_have_text(["Lady Lovelace"])
        await say(ada, "after")
        await expect(ada.locator(".mine .text")).to_have_text(["before", "after"])
        await ada.reload()
        await expect(ada.locator(".mine .text")).to_have_text(["before", "after"])
        await expect(ada.locator("#people .who")).to_have_text(["Lady Lovelace"])
        assert await ada.locator(".notice").all_text_contents() == []


@pytest.mark.browser
async def test_switch_of_transport_is_silent_for_the_others(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "RETURN_DELAY", 60)
    async with (
        serving(make_app()) as port,
        joined(browser, port, "Ada") as ada,
        joined(browser, port, "Grace") as grace,
    ):
        for transport, server_name in (("xhr-polling", "xhr"), ("websocket", "websocket")):
            await grace.select_option("#force", transport)
            await expect(ada.locator("#people code").last).to_have_text(server_name)
        await say(grace, "Still me.")
        for page, own in ((ada, "Ada"), (grace, "Grace")):
            await expect(page.locator(".text")).to_have_text(["Still me."])
            notices = await page.locator(".notice").all_text_contents()
            assert notices == [f"{name} joined" for name in ("Ada", "Grace")][own == "Grace" :]


@pytest.mark.browser
@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming"])
async def test_page_comes_back_after_the_server_was_away(browser: Browser, transport: str) -> None:
    async with joined_for_restart(browser, transport) as (page, port):
        await expect(page.locator("#state")).to_have_text("Disconnected")
        await expect(page.locator("#trouble")).to_contain_text("Trying again in")
        await page.fill("#text", "typed meanwhile")
        async with serving(make_app(), port):
            await page.click("#retry")
            await expect(page.locator("#state")).to_have_text("Connected")
            await expect(page.locator("#banner")).to_be_hidden()
            await page.press("#text", "Enter")
            await expect(page.locator(".text")).to_have_text(["before", "typed meanwhile"])


@pytest.mark.browser
async def test_page_comes_back_by_itself(browser: Browser) -> None:
    async with joined_for_restart(browser, "websocket") as (page, port):
        await expect(page.locator("#state")).to_have_text("Disconnected")
        async with serving(make_app(), port):
            await expect(page.locator("#people .who")).to_have_text(["Ada"])
            await expect(page.locator("#state")).to_have_text("Connected", timeout=15_000)


@pytest.mark.browser
async def test_page_can_come_back_after_the_end(browser: Browser) -> None:
    async with serving(make_app()) as port, joined(browser, port, "Ada") as page:
        for come_back in (page.click("#retry"), page.select_option("#force", "xhr-polling")):
            await page.evaluate("socket.close(4000, 'enough')")
            await expect(page.locator("#trouble")).to_have_text("Closed: enough.")
            await come_back
            await expect(page.locator("#state")).to_have_text("Connected")
        await expect(page.locator("#transport")).to_have_text("xhr-polling")


@pytest.mark.browser
@pytest.mark.parametrize("transport", ["iframe-htmlfile", "iframe-eventsource", "xhr-streaming"])
async def test_page_notices_by_missing_heartbeats_that_the_server_was_killed(
    browser: Browser, transport: str
) -> None:
    port = free_port()
    async with (
        killed_at_the_end(port) as process,
        joined(browser, port, "Ada", transport) as page,
    ):
        await asyncio.sleep(2 * KILLED_HEARTBEAT)  # heartbeats keep it connected
        await expect(page.locator("#state")).to_have_text("Connected")
        process.kill()
        await process.wait()
        is_away = "document.querySelector('#state').textContent === 'Disconnected'"
        noticed = asyncio.ensure_future(page.wait_for_function(is_away, timeout=30_000))
        async with killed_at_the_end(port):  # the page may be back before this has begun
            await noticed
            await expect(page.locator("#state")).to_have_text("Connected", timeout=30_000)
            await say(page, "Back again.")
            await expect(page.locator(".text")).to_have_text(["Back again."])


KILLED_HEARTBEAT = 0.6
RUN_CHAT = f"""
from examples import chat
from examples.chat.__main__ import main

chat.HEARTBEAT_DELAY, chat.SILENCE = {KILLED_HEARTBEAT}, 5
main()
"""


@asynccontextmanager
async def killed_at_the_end(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the chat, with frequent heartbeats, as a process that can be killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN_CHAT, "--port", str(port)), cwd=ROOT
    )
    try:
        await until_serving(port)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def joined_for_restart(browser: Browser, transport: str) -> AsyncIterator[tuple[Page, int]]:
    """Open a page whose server has gone."""
    async with serving(make_app()) as port:
        visit = joined(browser, port, "Ada", transport)
        page = await visit.__aenter__()
        await say(page, "before")
        await expect(page.locator(".text")).to_have_text(["before"])
        await page.evaluate("Math.random = () => 0.99")  # it does not come back too early
    yield page, port
    await visit.__aexit__(None, None, None)


# What the server accepts.


@asynccontextmanager
async def connected(port: int, query: str = "") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/chat/websocket{query}") as websocket,
        async_timeout.timeout(10),
    ):
        yield websocket


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[" * 10_000,
        "null",
        "[]",
        "1" * 10_000,
        '"join"',
        "{}",
        '{"type": "shout"}',
        '{"type": ["join"]}',
        '{"type": "join"}',
        '{"type": "join", "name": 7}',
        '{"type": "join", "name": " \\u200b\\u202e\\ud800 "}',
        json.dumps({"type": "join", "name": "x" * (NAME_LENGTH + 1)}),
        '{"type": "say", "text": "no name yet"}',
    ],
)
async def test_what_is_not_understood_is_ignored(message: str) -> None:
    async with serving(make_app()) as port, connected(port) as websocket:
        welcome = await websocket.receive_json()
        assert (welcome["type"], welcome["users"], welcome["history"]) == ("welcome", [], [])
        await websocket.send_str(message)
        await websocket.send_bytes(b"\xff")
        await websocket.send_json({"type": "join", "name": "  Ada  \u202eL. "})
        event = await websocket.receive_json()
        assert event["type"] == "joined"
        assert event["user"] == {
            "id": welcome["you"],
            "name": "Ada L.",
            "transport": "rawwebsocket",
        }


async def test_texts_have_a_length_and_newcomers_get_the_last_ones() -> None:
    async with serving(make_app()) as port, connected(port) as websocket:
        await websocket.send_json({"type": "join", "name": "Ada"})
        for text in ("", " \n ", "x" * (TEXT_LENGTH + 1), *(f"text {i}" for i in range(60))):
            await websocket.send_json({"type": "say", "text": text})
        while (await websocket.receive_json()).get("text") != "text 59":
            pass
        async with connected(port) as newcomer:
            welcome = await newcomer.receive_json()
            texts = [said["text"] for said in welcome["history"]]
            assert texts == [f"text {i}" for i in range(10, 60)]
            assert [user["name"] for user in welcome["users"]] == ["Ada"]


async def test_who_comes_back_in_time_was_never_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "RETURN_DELAY", 60)
    async with serving(make_app()) as port, connected(port) as witness:
        await witness.receive_json()
        ids = set()
        for name in ("Ada", "Lady Ada"):
            async with connected(port, "?page=secret") as page:
                welcome = await page.receive_json()
                ids.add(welcome["you"])
                known = [user["name"] for user in welcome["users"]]
                assert known == ([] if name == "Ada" else ["Ada"])
                await page.send_json({"type": "join", "name": name})
                event = await witness.receive_json()
                assert (event["type"], event["user"]["name"]) == ("joined", name)
        (visitor,) = ids
        assert "secret" not in visitor


async def test_who_does_not_come_back_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "RETURN_DELAY", 0)
    async with serving(make_app()) as port, connected(port) as witness:
        await witness.receive_json()
        async with connected(port, "?page=secret") as page:
            visitor = (await page.receive_json())["you"]
            for name in ("Ada", "Lady Ada"):
                await page.send_json({"type": "join", "name": name})
                assert (await witness.receive_json())["user"]["name"] == name
        assert await witness.receive_json() == {"type": "left", "id": visitor}
        async with connected(port, "?page=secret") as page:
            assert (await page.receive_json())["users"] == []


async def test_user_with_two_connections_leaves_with_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chat, "RETURN_DELAY", 0)
    async with serving(make_app()) as port, connected(port) as witness:
        await witness.receive_json()
        async with connected(port, "?page=a") as first:
            await first.send_json({"type": "join", "name": "Ada"})
            assert (await witness.receive_json())["type"] == "joined"
            async with connected(port, "?page=a") as second:
                await second.receive_json()
                await second.close()
            await first.send_json({"type": "say", "text": "Still here."})
            assert (await witness.receive_json())["type"] == "said"
        assert (await witness.receive_json())["type"] == "left"


async def test_tabs_with_one_page_id_that_end_at_once_leave_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routers = []

    class Kept(SockJSRouter):
        def attach(self, app: web.Application) -> None:
            routers.append(self)
            super().attach(app)

    monkeypatch.setattr(chat, "SockJSRouter", Kept)
    monkeypatch.setattr(chat, "RETURN_DELAY", 0.05)
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    async with serving(make_app()) as port, connected(port) as witness:
        await witness.receive_json()
        for _ in range(2):
            async with (
                connected(port, "?page=a") as first,
                connected(port, "?page=a") as second,
                connected(port, "?page=a"),
            ):
                for tab in (first, second):
                    await tab.send_json({"type": "join", "name": "Ada"})
                    assert (await witness.receive_json())["type"] == "joined"
                for visitor in routers[0].subscribers(chat.CHANNEL):
                    if visitor.info.query:
                        visitor.close()  # as a drain does, all in one turn
                assert (await witness.receive_json())["type"] == "left"
        await asyncio.sleep(0.2)  # a second one would have left by then
        gc.collect()  # a task whose exception nobody has retrieved says so
        await witness.send_json({"type": "join", "name": "Grace"})
        assert (await witness.receive_json())["type"] == "joined"
    assert troubles == []


async def test_sockjs_client_comes_from_the_cdn_where_there_is_no_file() -> None:
    async with serving(make_app(Path("missing"))) as port, aiohttp.ClientSession() as session:
        for path in ("/", "/chat/iframe.html"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                assert chat.script_tag(CDN) in await response.text()


async def test_sockjs_client_comes_from_the_file_where_there_is_one(tmp_path: Path) -> None:
    script = tmp_path / "sockjs.min.js"
    script.write_text("/* sockjs-client */")
    async with serving(make_app(script)) as port, aiohttp.ClientSession() as session:
        for path in ("/", "/chat/iframe.html"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                assert '<script src="/sockjs.min.js"></script>' in await response.text()
        async with session.get(f"http://127.0.0.1:{port}/sockjs.min.js") as response:
            assert await response.text() == "/* sockjs-client */"
            assert response.content_type in ("text/javascript", "application/javascript")


# The process.


async def run(*arguments: Any) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.chat"),
        *map(str, arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def until_serving(port: int) -> None:
    async with async_timeout.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_process_serves_the_page_and_ends_promptly(ending: signal.Signals) -> None:
    port = free_port()
    process = await run("--port", port)
    await until_serving(port)
    url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert "SockJS chat" in await response.text()
        async with (
            session.ws_connect(f"{url}/chat/000/a/websocket") as websocket,
            session.post(f"{url}/chat/000/b/xhr_streaming") as stream,
        ):
            assert await websocket.receive_str() == "o"
            process.send_signal(ending)
            async with async_timeout.timeout(10):
                output, errors = await process.communicate()
            assert (await stream.text()).endswith('c[1012,"Service restart"]\n')
            frames = [message.data async for message in websocket]
            assert frames[-1] == 'c[1012,"Service restart"]'
    assert (process.returncode, errors) == (0, b"")
    assert f"http://127.0.0.1:{port}".encode() in output


async def test_taken_port_is_told_in_one_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        process = await run("--port", port)
        output, errors = await process.communicate()
    assert process.returncode == 1
    assert output == b""
    remedy = f"choose another one, such as --port {port + 1}"
    assert errors.decode() == f"Port {port} of 127.0.0.1 is taken: {remedy}\n"


async def test_missing_script_is_told() -> None:
    process = await run("--sockjs-client", "missing.js")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.endswith(b"error: --sockjs-client: file not found: missing.js\n")


async def test_what_nodes_lack_is_told_in_one_line() -> None:
    process = await run("--url", "http://127.0.0.1:8081")
    _, errors = await process.communicate()
    assert (process.returncode, errors.decode().splitlines()[-1]) == (
        2,
        "python -m examples.chat: error: --url requires --redis",
    )
    process = await run("--url", "http://127.0.0.1:8081", "--redis", "redis://127.0.0.1")
    output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.startswith(b"secret must have at least 16 bytes, not 0")
    assert errors.endswith(b"(set the secret in NODES_SECRET)\n")
    assert errors.count(b"\n") == 1
