"""The cluster example as a user runs it: redis-server, haproxy, and three nodes of the chat."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import async_timeout
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from examples.cluster.__main__ import find
from tests.conftest import require
from tests.integration.haproxy import find_program, states
from tests.integration.node import ROOT
from tests.integration.test_chat import joined, say
from tests.process import PATIENCE

PROCESSES = ["haproxy", "node one", "node three", "node two", "redis-server"]


class Cluster:
    """`python -m examples.cluster`, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0
        self.pids: dict[str, int] = {}

    async def until_serving(self) -> None:
        while not self.port:
            line = await self.line()
            if match := re.fullmatch(r"(.*\w) +is process (\d+)", line):
                self.pids[match[1]] = int(match[2])
            elif match := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(match[1])

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with async_timeout.timeout(PATIENCE):
            line = (await self.process.stdout.readline()).decode()
        assert line, "it has ended"
        return line.rstrip()

    def running(self) -> list[str]:
        return sorted(name for name, pid in self.pids.items() if is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


async def start(folder: Path, **env: str) -> Cluster:
    return Cluster(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-um", "examples.cluster", "--port", "0"),
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), **env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    )


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    require(find_program("haproxy"), "haproxy")
    require(find_program("redis-server"), "redis-server")
    cluster = await start(folder)
    await cluster.until_serving()
    yield cluster
    if cluster.process.returncode is None:
        cluster.process.send_signal(signal.SIGTERM)
    await cluster.process.communicate()


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.haproxy
@pytest.mark.redis
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_all_of_it_ends_without_a_trace(cluster: Cluster, folder: Path, number: int) -> None:
    assert sorted(cluster.pids) == PROCESSES
    assert cluster.running() == PROCESSES
    cluster.process.send_signal(number)
    async with async_timeout.timeout(PATIENCE):
        _, errors = await cluster.process.communicate()
    assert (cluster.process.returncode, errors) == (0, b"")
    assert cluster.running() == []
    assert os.listdir(folder) == []


@pytest.mark.haproxy
@pytest.mark.redis
async def test_it_can_be_ended_while_it_starts(folder: Path) -> None:
    require(find_program("haproxy"), "haproxy")
    require(find_program("redis-server"), "redis-server")
    cluster = await start(folder)
    line = await cluster.line()
    assert "redis-server is process" in line
    cluster.process.send_signal(signal.SIGINT)
    async with async_timeout.timeout(PATIENCE):
        output, errors = await cluster.process.communicate()
    assert (cluster.process.returncode, errors) == (0, b"")
    for pid in re.findall(r"process (\d+)", line + output.decode()):
        assert not is_running(int(pid))
    assert os.listdir(folder) == []


@pytest.mark.parametrize("program", ["redis-server", "haproxy"])
def test_program_that_is_missing_is_named_with_its_package(program: str, folder: Path) -> None:
    with pytest.raises(SystemExit) as error:
        find(program, str(folder))
    assert error.value.code == f"{program} is not installed; on Debian: apt install {program}"


async def test_missing_program_is_told_in_one_line(folder: Path) -> None:
    cluster = await start(folder, PATH=str(folder))
    output, errors = await cluster.process.communicate()
    assert (cluster.process.returncode, output) == (1, b"")
    assert re.fullmatch(rb"redis-server is not installed[^\n]*\n", errors)


@pytest.mark.haproxy
@pytest.mark.redis
async def test_what_does_not_start_ends_the_rest(folder: Path) -> None:
    require(find_program("redis-server"), "redis-server")
    require(find_program("haproxy"), "haproxy")
    cluster = await start(folder, SOCKJS_CHECK="never")
    output, errors = await cluster.process.communicate()
    assert cluster.process.returncode == 1
    assert b"[ALERT]" in errors  # haproxy says what is wrong
    assert errors.endswith(b"haproxy did not start\n")
    assert b"Traceback" not in errors
    for pid in re.findall(rb"process (\d+)", output):
        assert not is_running(int(pid))


@pytest.mark.haproxy
@pytest.mark.redis
async def test_port_that_is_taken_is_told_in_one_line() -> None:
    require(find_program("haproxy"), "haproxy")
    require(find_program("redis-server"), "redis-server")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "examples.cluster", "--port"),
            str(listener.getsockname()[1]),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(rb"Port \d+ of 127.0.0.1 is taken[^\n]*\n", errors)


# People.


async def place(page: Page) -> str:
    """Return on which node somebody is, as everybody sees it: ``xhr on two``."""
    return (await page.locator("#people .me code").inner_text()).split(" on ")[1]


async def until_elsewhere(page: Page, node: str) -> None:
    """Wait until somebody is on another node."""
    others = re.compile(" on (?!" + node + ")")
    await expect(page.locator("#people .me code")).to_have_text(others, timeout=20_000)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.browser
@pytest.mark.haproxy
@pytest.mark.redis
async def test_messages_of_everybody_reach_everybody_in_order_wherever_requests_come_in(
    browser: Browser, cluster: Cluster, folder: Path
) -> None:
    admin = next(folder.glob("sockjs-*")) / "haproxy"  # noqa: ASYNC240
    transports = {"Ada": "xhr-polling", "Grace": "jsonp-polling", "Linus": "xhr-streaming"}

    async def requests() -> dict[str, int]:
        servers = await states(admin)
        return {name: int(servers[name]["stot"]) for name in ("one", "two", "three")}

    async with contextlib.AsyncExitStack() as stack:
        people = {}
        for name, transport in transports.items():
            before = await requests()
            page = await stack.enter_async_context(joined(browser, cluster.port, name, transport))
            people[name] = page
            for number in range(6):
                await say(page, f"{name} {number}")
                await expect(page.locator(".text").last).to_have_text(f"{name} {number}")
            after = await requests()
            # there is no stickiness: requests of each come in at all nodes
            assert all(after[node] > before[node] for node in before), (before, after)
        for number in range(6, 12):  # all at a time
            await asyncio.gather(*(say(people[name], f"{name} {number}") for name in people))
        for page in people.values():
            await expect(page.locator(".text")).to_have_count(12 * len(people))
            texts = await page.locator(".text").all_text_contents()
            for name in people:
                said = [text for text in texts if text.startswith(name)]
                assert said == [f"{name} {number}" for number in range(12)]


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.browser
@pytest.mark.haproxy
@pytest.mark.redis
async def test_people_meet_and_the_end_of_a_node_is_no_end(
    browser: Browser, cluster: Cluster
) -> None:
    async with (
        joined(browser, cluster.port, "Ada", "xhr-polling") as ada,
        joined(browser, cluster.port, "Grace", "xhr-streaming") as grace,
        joined(browser, cluster.port, "Linus") as linus,
    ):
        people = {"Ada": ada, "Grace": grace, "Linus": linus}
        for name, page in people.items():
            await say(page, f"I am {name}")
            for other in people.values():
                await expect(other.locator(".text").last).to_have_text(f"I am {name}")
        node = await place(ada)
        stayed = [page for page in (grace, linus) if await place(page) != node]
        os.kill(cluster.pids[f"node {node}"], signal.SIGKILL)
        assert await cluster.line() == f"node {node:7} has ended"
        await until_elsewhere(ada, node)
        for page in stayed:
            await expect(page.locator("#state")).to_have_text("Connected")
        await say(ada, "Here I am again")
        for page in people.values():
            await expect(page.locator(".text").last).to_have_text("Here I am again", timeout=20_000)
