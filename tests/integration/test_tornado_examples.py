"""The examples of the Tornado-style API, run as a user runs them, by clients and by a browser."""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import async_timeout
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests import clients
from tests.cases import case
from tests.conftest import require
from tests.integration.browser import SOCKJS_CLIENT, visiting
from tests.integration.client import fetch
from tests.integration.haproxy import find_program
from tests.integration.test_examples import ROOT, running, started
from tests.ports import free_port
from tests.target import Target

GUIDE = ROOT / "docs/migrating-from-sockjs-tornado.md"
SIDE_BY_SIDE = "examples.tornado_side_by_side"

Kind = type[clients.Client]
pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def example(name: str, prefix: str) -> AsyncIterator[Target]:
    port = free_port()
    command = ["-m", f"examples.tornado.{name}", "--port", str(port)]
    async with running(port, *command, prefix=prefix) as served:
        yield served


async def test_chat() -> None:
    async with example("chat", "/chat") as served:
        first = await clients.WebSocket.open(served)
        second = await clients.Xhr.open(served)
        assert await first.messages(1) == ["Someone joined."]
        third = await clients.XhrStreaming.open(served)
        for client in (first, second):
            assert await client.messages(1) == ["Someone joined."]
        for sender in (first, second):
            await sender.send("Hello", "\u2603")
            for client in (first, second, third):
                assert await client.messages(2) == ["Hello", "\u2603"]
        await third.leave()
        for client in (first, second):
            assert await client.messages(1) == ["Someone left."]
        for client in (first, second):
            await client.leave()


async def test_stats() -> None:
    async with example("stats", "/chat") as served:
        talker = await clients.WebSocket.open(served)
        await talker.send("a", "b", "c")
        assert await talker.messages(3) == ["a", "b", "c"]
        served.prefix = "/statistics"
        watchers = [await kind.open(served) for kind in (clients.WebSocket, clients.Xhr)]
        for watcher in watchers:
            dump: dict[str, Any] = {"packets_recv_ps": 0}
            while not dump["packets_recv_ps"]:
                (message,) = await watcher.messages(1)
                dump = json.loads(message)
                assert dump["sessions_active"] == dump["transp_websocket"] == 1
            assert dump["packets_recv_ps"] == dump["packets_sent_ps"]
        await talker.leave()
        for watcher in watchers:
            dump = {"sessions_active": 1}
            while dump["sessions_active"]:
                (message,) = await watcher.messages(1)
                dump = json.loads(message)
            assert dump["transp_websocket"] == 0
            await watcher.leave()


async def test_bench() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.tornado.bench", "--port", str(port)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    served = Target(port, "/broadcast")
    try:
        async with async_timeout.timeout(20):
            assert await process.stdout.readline() == b"Clients: 0\n"
            while b"Running on" not in await process.stdout.readline():
                pass
            all_clients = [
                await kind.open(served) for kind in (clients.WebSocket, clients.Xhr, clients.Xhr)
            ]
            for sender in all_clients[:2]:
                await sender.send("to all")
                for client in all_clients:
                    assert await client.messages(1) == ["to all"]
            while await process.stdout.readline() != b"Clients: 3\n":
                pass
            for client in all_clients:
                await client.leave()
    finally:
        process.terminate()
        assert await process.wait() == 0
        assert await process.stderr.read() == b""
        await served.hang_up()


# In the browser.


async def say(page: Page, text: str, where: str = "") -> None:
    await page.fill(f"{where} input", text)
    await page.press(f"{where} input", "Enter")


@pytest.mark.browser
@pytest.mark.parametrize("transport", ["websocket", "xhr-polling"])
async def test_chat_in_the_browser(browser: Browser, transport: str) -> None:
    async with example("chat", "") as served:
        url = served.url("/?" + transport)
        async with visiting(browser, url) as first:
            await expect(first.locator("#state")).to_have_text("Connected over " + transport)
            async with visiting(browser, url) as second:
                await expect(second.locator("#state")).to_have_text("Connected over " + transport)
                await say(second, "<b>Hello</b>")
                await expect(second.locator("#log li")).to_have_text(["<b>Hello</b>"])
                await say(first, "Hello yourself")
                await expect(second.locator("#log li").last).to_have_text("Hello yourself")
            lines = ["Someone joined.", "<b>Hello</b>", "Hello yourself", "Someone left."]
            await expect(first.locator("#log li")).to_have_text(lines, timeout=10_000)


BROADCAST = """transport => new Promise((resolve, reject) => {
    const socket = new SockJS("/broadcast", null, { transports: transport, timeout: 5000 });
    socket.onopen = () => socket.send("to all");
    socket.onmessage = (event) => { resolve([socket.transport, event.data]); socket.close(); };
    socket.onclose = (event) => reject(event.reason);
})"""


@pytest.mark.browser
async def test_bench_in_the_browser(browser: Browser) -> None:
    require(SOCKJS_CLIENT.is_file(), "npm's sockjs-client")
    async with (
        example("bench", "/broadcast") as served,
        visiting(browser, served.url("/info")) as page,
    ):
        await page.add_script_tag(path=SOCKJS_CLIENT)
        for transport in ("websocket", "xhr-polling"):
            assert await page.evaluate(BROADCAST, transport) == [transport, "to all"]


@pytest.mark.browser
async def test_stats_in_the_browser(browser: Browser) -> None:
    async with example("stats", "") as served:
        for own in ("websocket", "xhr-polling"):
            with case(own):
                async with visiting(browser, served.url("/?" + own)) as page:
                    await see_statistics(page, own)


async def see_statistics(page: Page, own: str) -> None:
    await expect(page.locator("#state")).to_have_text("Connected over " + own)
    for transport in ("websocket", "websocket", "xhr-polling"):
        await page.select_option("#transport", transport)
        await page.click("#add")
    figure = page.locator("li[data-key=transp_websocket] b")
    await expect(figure).to_have_text("2", timeout=10_000)
    await expect(page.locator("li[data-key=transp_xhr] b")).to_have_text("1")
    await expect(page.locator("#requests")).to_contain_text("3 sessions")
    rate = page.locator("li[data-key=packets_sent_ps] b")
    await expect(rate).to_have_text(re.compile(r"[1-9]\d*\.\d"), timeout=10_000)
    await expect(page.locator("#sessions polygon")).to_have_count(2)
    await expect(page.locator("#messages polyline")).to_have_count(2)
    await page.click("#clear")
    await expect(figure).to_have_text("0", timeout=10_000)


# Beside a real Tornado.


@asynccontextmanager
async def side_by_side() -> AsyncIterator[tuple[int, Target]]:
    pytest.importorskip("tornado")
    old, new = free_port(), free_port()
    ports = ["--old-port", str(old), "--new-port", str(new)]
    async with running(new, "-m", SIDE_BY_SIDE, *ports, prefix="/chat") as served:
        yield old, served


@dataclass
class Room:
    """The room of both, in which somebody is all the time."""

    old_port: int
    served: Target
    witness: clients.Client

    async def until_empty(self) -> None:
        """Wait until all the others have left."""
        await self.witness.send("Is anybody here?")
        others = 0
        has_answered = False
        while others or not has_answered:
            for message in await self.witness.messages(1):
                others += message.endswith(" joined.") - message.endswith(" left.")
                has_answered |= message == "A new one: Is anybody here?"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kept_room() -> AsyncIterator[Room]:
    async with side_by_side() as (old_port, served):
        witness = await clients.WebSocket.open(served)
        yield Room(old_port, served, witness)
        await witness.leave()


@pytest_asyncio.fixture(loop_scope="session")
async def room(kept_room: Room) -> AsyncIterator[Room]:
    """The room of a process that no test ends."""
    yield kept_room
    await kept_room.until_empty()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def front(kept_room: Room) -> AsyncIterator[int]:
    """haproxy, which makes one site of both."""
    async with haproxy(kept_room.old_port, kept_room.served.port) as port:
        yield port


@asynccontextmanager
async def old_socket(served: Target, port: int) -> Any:
    url = f"http://127.0.0.1:{port}/old-socket"
    async with served.session.ws_connect(url) as websocket, async_timeout.timeout(10):
        yield websocket


async def talk_across(served: Target, old_port: int, kind: Kind) -> None:
    """Meet a visitor of Tornado's handler, and one of the adapter, in one room."""
    new = await kind.open(served)
    async with old_socket(served, old_port) as old:
        assert await new.messages(1) == ["An old one joined."]
        await old.send_str("hello")
        assert await new.messages(1) == ["An old one: hello"]
        assert await old.receive_str() == "An old one: hello"
        await new.send("hello yourself")
        assert await new.messages(1) == ["A new one: hello yourself"]
        assert await old.receive_str() == "A new one: hello yourself"
    assert await new.messages(1) == ["An old one left."]
    async with old_socket(served, old_port) as old:
        assert await new.messages(1) == ["An old one joined."]
        await new.leave()
        assert await old.receive_str() == "A new one left."


@pytest.mark.parametrize("kind", clients.SOCKJS, ids=lambda kind: kind.name)
async def test_tornado_and_aiohttp_share_a_room(room: Room, kind: Kind) -> None:
    await talk_across(room.served, room.old_port, kind)


async def test_both_end_together() -> None:
    pytest.importorskip("tornado")
    old_port, served = free_port(), Target(free_port(), "/chat")
    ports = ["--old-port", str(old_port), "--new-port", str(served.port)]
    async with started("-m", SIDE_BY_SIDE, *ports):
        await served.until_listening()
        new = await clients.WebSocket.open(served)
        old = await served.session.ws_connect(f"http://127.0.0.1:{old_port}/old-socket")
        assert await new.messages(1) == ["An old one joined."]
    assert await new.frame() == b'c[1012,"Service restart"]'
    assert await old.receive_str() == "A new one left."
    end = await old.receive()
    assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 1012, "Service restart")
    await old.close()
    await new.leave()
    await served.hang_up()


@asynccontextmanager
async def haproxy(old_port: int, new_port: int) -> AsyncIterator[int]:
    program = find_program("haproxy")
    require(program, "haproxy")
    assert program
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(program, "-db", "-f", ROOT / "examples/tornado_side_by_side/haproxy.cfg"),
            env={
                **os.environ,
                "SITE_BIND": f"fd@{listener.fileno()}",
                "SITE_OLD": f"127.0.0.1:{old_port}",
                "SITE_NEW": f"127.0.0.1:{new_port}",
            },
            pass_fds=[listener.fileno()],
        )
    try:
        yield port
    finally:
        process.kill()
        await process.wait()


@pytest.mark.haproxy
async def test_haproxy_makes_one_site_of_both(room: Room, front: int) -> None:
    page = await fetch(front, "/")
    assert b"This page comes from Tornado." in page.body
    assert str(page.header("Server")).startswith("TornadoServer")
    assert (await fetch(front, "/chat")).body == b"Welcome to SockJS!\n"
    served = Target(front, "/chat")
    for kind in (clients.WebSocket, clients.Xhr):
        with case(kind.name):
            await talk_across(served, front, kind)
            await room.until_empty()
    await served.hang_up()


@pytest.mark.haproxy
@pytest.mark.browser
@pytest.mark.parametrize("transport", ["websocket", "xhr-polling"])
async def test_page_of_both_behind_haproxy(
    browser: Browser, room: Room, front: int, transport: str
) -> None:
    await use_page_of_both(browser, f"http://127.0.0.1:{front}/?{transport}", transport)


@pytest.mark.browser
async def test_page_of_both_without_proxy(browser: Browser, room: Room) -> None:
    url = f"http://127.0.0.1:{room.old_port}/?xhr-streaming"
    await use_page_of_both(browser, url, "xhr-streaming")


async def use_page_of_both(browser: Browser, url: str, transport: str) -> None:
    async with visiting(browser, url) as page:
        await expect(page.locator("#old p")).to_have_text("Connected over Tornado's WebSocket")
        await expect(page.locator("#new p")).to_have_text("Connected over " + transport)
        await say(page, "one", "#old")
        await expect(page.locator("#new li").last).to_have_text("An old one: one")
        await say(page, "two", "#new")
        await expect(page.locator("#old li").last).to_have_text("A new one: two")


# The page that says how to migrate.


def shown(start: str) -> str:
    """Return the program in the guide that starts with `start`."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (program,) = [block for block in blocks if block.startswith(start)]
    return str(program)


async def test_program_of_the_guide_runs(tmp_path: Path) -> None:
    script, port = tmp_path / "after.py", free_port()
    program = shown("from aiohttp import web\n")
    script.write_text(program.replace("port=8080", f"port={port}"))
    async with running(port, str(script)) as served:
        for kind in clients.ALL:
            client = await kind.open(served)
            await client.send("a")
            assert await client.messages(1) == ["a"]
            await client.leave()


async def test_guide_changes_imports_and_start_alone() -> None:
    before, after = shown("import tornado.ioloop\n"), shown("from aiohttp import web\n")
    classes = [program.split("\n\n\n")[1] for program in (before, after)]
    assert classes[0] == classes[1]


async def test_tornados_loop_works_in_hooks(tmp_path: Path) -> None:
    pytest.importorskip("tornado")
    script, port = tmp_path / "clock.py", free_port()
    script.write_text(
        "import time\nfrom aiohttp import web\n"
        "from sockjs_aio.tornado import SockJSConnection, SockJSRouter\n"
        + shown("from tornado.ioloop import PeriodicCallback\n")
        + "router, app = SockJSRouter(Clock, '/echo'), web.Application()\n"
        "told = []\ntell_all = lambda: told.append(1)\n"
        + shown("async def start_ticking(app)")
        + f"router.attach(app)\nweb.run_app(app, port={port})\nassert told\n"
    )
    async with running(port, str(script)) as served:
        client = await clients.Xhr.open(served)
        for _ in range(2):
            (tick,) = await client.messages(1)  # an object, where others have text
            assert list(tick) == ["time"]
        await client.leave()
