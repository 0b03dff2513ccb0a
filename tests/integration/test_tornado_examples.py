"""The examples of the Tornado-style API, run as a user runs them, by clients and by a browser."""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import async_timeout
import pytest
from playwright.async_api import Page, expect

from tests import clients
from tests.conftest import Serve, Served, require
from tests.integration.browser import SOCKJS_CLIENT, launched, visiting
from tests.integration.client import fetch
from tests.integration.haproxy import find_program
from tests.integration.test_examples import ROOT, running
from tests.ports import free_port

GUIDE = ROOT / "docs/migrating-from-sockjs-tornado.md"
SIDE_BY_SIDE = "examples.tornado_side_by_side"

two_kinds = pytest.mark.parametrize(
    "kind", [clients.WebSocket, clients.Xhr], ids=lambda kind: kind.name
)
Kind = type[clients.Client]


@asynccontextmanager
async def example(serve: Serve, name: str, prefix: str) -> AsyncIterator[Served]:
    port = free_port()
    async with running(
        serve, port, "-m", f"examples.tornado.{name}", "--port", str(port)
    ) as served:
        served.prefix = prefix
        yield served


@two_kinds
async def test_chat(serve: Serve, kind: Kind) -> None:
    async with example(serve, "chat", "/chat") as served:
        first = await kind.open(served)
        second = await clients.XhrStreaming.open(served)
        assert await first.messages(1) == ["Someone joined."]
        await first.send("Hello", "\u2603")
        for client in (first, second):
            assert await client.messages(2) == ["Hello", "\u2603"]
        await second.leave()
        assert await first.messages(1) == ["Someone left."]
        await first.leave()


@two_kinds
async def test_stats(serve: Serve, kind: Kind) -> None:
    async with example(serve, "stats", "/chat") as served:
        talker = await clients.WebSocket.open(served)
        await talker.send("a", "b", "c")
        assert await talker.messages(3) == ["a", "b", "c"]
        served.prefix = "/statistics"
        watcher = await kind.open(served)
        dump: dict[str, Any] = {"packets_recv_ps": 0}
        while not dump["packets_recv_ps"]:
            (message,) = await watcher.messages(1)
            dump = json.loads(message)
            assert dump["sessions_active"] == dump["transp_websocket"] == 1
        assert dump["packets_recv_ps"] == dump["packets_sent_ps"]
        await talker.leave()
        while dump["sessions_active"]:
            (message,) = await watcher.messages(1)
            dump = json.loads(message)
        assert dump["transp_websocket"] == 0
        await watcher.leave()


@two_kinds
async def test_bench(serve: Serve, kind: Kind) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.tornado.bench", "--port", str(port)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout and process.stderr
    try:
        async with async_timeout.timeout(20):
            assert await process.stdout.readline() == b"Clients: 0\n"
            while b"Running on" not in await process.stdout.readline():
                pass
            served = await serve(prefix="/broadcast")
            served.port = port
            all_clients = [await kind.open(served) for _ in range(3)]
            await all_clients[0].send("to all")
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


# In the browser.


async def say(page: Page, text: str, where: str = "") -> None:
    await page.fill(f"{where} input", text)
    await page.press(f"{where} input", "Enter")


@pytest.mark.browser
@pytest.mark.parametrize("transport", ["websocket", "xhr-polling"])
async def test_chat_in_the_browser(serve: Serve, transport: str) -> None:
    async with example(serve, "chat", "") as served, launched() as browser:
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
@pytest.mark.parametrize("transport", ["websocket", "xhr-polling"])
async def test_bench_in_the_browser(serve: Serve, transport: str) -> None:
    require(SOCKJS_CLIENT.is_file(), "npm's sockjs-client")
    async with (
        example(serve, "bench", "/broadcast") as served,
        launched() as browser,
        visiting(browser, served.url("/info")) as page,
    ):
        await page.add_script_tag(path=SOCKJS_CLIENT)
        assert await page.evaluate(BROADCAST, transport) == [transport, "to all"]


@pytest.mark.browser
@pytest.mark.parametrize("own", ["websocket", "xhr-polling"])
async def test_stats_in_the_browser(serve: Serve, own: str) -> None:
    async with (
        example(serve, "stats", "") as served,
        launched() as browser,
        visiting(browser, served.url("/?" + own)) as page,
    ):
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
async def side_by_side(serve: Serve) -> AsyncIterator[tuple[int, Served]]:
    pytest.importorskip("tornado")
    old, new = free_port(), free_port()
    ports = ["--old-port", str(old), "--new-port", str(new)]
    async with running(serve, new, "-m", SIDE_BY_SIDE, *ports) as served:
        served.prefix = "/chat"
        yield old, served


@asynccontextmanager
async def old_socket(served: Served, port: int) -> Any:
    url = f"http://127.0.0.1:{port}/old-socket"
    async with served.session.ws_connect(url) as websocket, async_timeout.timeout(10):
        yield websocket


async def talk_across(served: Served, old_port: int, kind: Kind) -> None:
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
async def test_tornado_and_aiohttp_share_a_room(serve: Serve, kind: Kind) -> None:
    async with side_by_side(serve) as (old_port, served):
        await talk_across(served, old_port, kind)


async def test_both_end_together(serve: Serve) -> None:
    async with side_by_side(serve) as (old_port, served):
        new = await clients.WebSocket.open(served)
        old = await served.session.ws_connect(f"http://127.0.0.1:{old_port}/old-socket")
        assert await new.messages(1) == ["An old one joined."]
    assert await new.frame() == b'c[1012,"Service restart"]'
    assert await old.receive_str() == "A new one left."
    end = await old.receive()
    assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 1012, "Service restart")
    await old.close()
    await new.leave()


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
@two_kinds
async def test_haproxy_makes_one_site_of_both(serve: Serve, kind: Kind) -> None:
    async with side_by_side(serve) as (old_port, served), haproxy(old_port, served.port) as port:
        served.port = port
        page = await fetch(port, "/")
        assert b"This page comes from Tornado." in page.body
        assert str(page.header("Server")).startswith("TornadoServer")
        assert (await fetch(port, "/chat")).body == b"Welcome to SockJS!\n"
        await talk_across(served, port, kind)


@pytest.mark.haproxy
@pytest.mark.browser
@pytest.mark.parametrize("transport", ["websocket", "xhr-polling"])
async def test_page_of_both_behind_haproxy(serve: Serve, transport: str) -> None:
    async with side_by_side(serve) as (old_port, served), haproxy(old_port, served.port) as port:
        await use_page_of_both(f"http://127.0.0.1:{port}/?{transport}", transport)


@pytest.mark.browser
async def test_page_of_both_without_proxy(serve: Serve) -> None:
    async with side_by_side(serve) as (old_port, _):
        await use_page_of_both(f"http://127.0.0.1:{old_port}/?xhr-streaming", "xhr-streaming")


async def use_page_of_both(url: str, transport: str) -> None:
    async with launched() as browser, visiting(browser, url) as page:
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


async def test_program_of_the_guide_runs(serve: Serve, tmp_path: Path) -> None:
    script, port = tmp_path / "after.py", free_port()
    program = shown("from aiohttp import web\n")
    script.write_text(program.replace("port=8080", f"port={port}"))
    async with running(serve, port, str(script)) as served:
        for kind in clients.ALL:
            client = await kind.open(served)
            await client.send("a")
            assert await client.messages(1) == ["a"]
            await client.leave()


def test_guide_changes_imports_and_start_alone() -> None:
    before, after = shown("import tornado.ioloop\n"), shown("from aiohttp import web\n")
    classes = [program.split("\n\n\n")[1] for program in (before, after)]
    assert classes[0] == classes[1]


async def test_tornados_loop_works_in_hooks(serve: Serve, tmp_path: Path) -> None:
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
    async with running(serve, port, str(script)) as served:
        client = await clients.Xhr.open(served)
        for _ in range(2):
            (tick,) = await client.messages(1)  # an object, where others have text
            assert list(tick) == ["time"]
        await client.leave()
