"""sockjs-client in a real browser, through the real haproxy in each of its configurations."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.certificate import make_certificate
from tests.integration.browser import Client, make_page_app, serving, visiting
from tests.integration.conftest import StartHaproxy
from tests.integration.haproxy import SERVICES, Haproxy
from tests.integration.node import NodeProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.haproxy,
    pytest.mark.redis,
    pytest.mark.asyncio(loop_scope="session"),
]

TRANSPORTS = [
    "websocket",
    "xhr-streaming",
    "eventsource",
    "iframe-eventsource",
    "iframe-htmlfile",
    "xhr-polling",
    "iframe-xhr-polling",
    "jsonp-polling",
]

Front = Callable[[str, bool], str]
T = TypeVar("T")
PageOf = Callable[[str], Awaitable[Client]]


@pytest.fixture(scope="module")
def url_of(
    program: str,
    nodes: list[NodeProcess],
    relaying_nodes: list[NodeProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    """Tell the address of haproxy, started as needed: ``url_of("by-cookie", with_tls)``."""
    fronts: dict[tuple[str, bool], Haproxy] = {}
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"))

    def url(configuration: str, has_tls: bool) -> str:
        key = (configuration, has_tls)
        if key not in fronts:
            directory = tmp_path_factory.mktemp("haproxy")
            fronts[key] = Haproxy(
                program,
                directory,
                relaying_nodes if configuration == "by-relay" else nodes,
                configuration,
                certificate=certificate if has_tls else None,
            )
        return f"http{'s' * has_tls}://127.0.0.1:{fronts[key].port}"

    yield url
    for front in fronts.values():
        front.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page_of(browser: Browser) -> AsyncIterator[PageOf]:
    """Return the page of the servers at an address; one for all tests, as that takes its time."""
    clients: dict[str, Client] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def client(url: str) -> Client:
            if url not in clients:
                page = visiting(browser, url + "/client.html", ignore_https_errors=True)
                clients[url] = Client(await stack.enter_async_context(page))
            return clients[url]

        yield client


async def close(client: Client) -> None:
    await client.call("close")
    assert await client.closed() == (1000, "Normal closure")


async def ask(client: Client) -> dict[str, Any]:
    (answer,) = await client.echo(["who"])
    found: dict[str, Any] = json.loads(answer)
    return found


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("configuration", SERVICES)
async def test_every_transport_echoes(
    page_of: PageOf, url_of: Front, configuration: str, has_tls: bool, transport: str
) -> None:
    url = url_of(configuration, has_tls)
    client = await page_of(url)
    assert await client.open(url + SERVICES[configuration], transport) == transport
    first = await ask(client)
    assert first["scheme"] == ("https" if has_tls else "http")
    for message in ["%41 </script> \u2028 \U0001f600", "x" * 100_000]:
        assert await client.echo([message]) == [message]
    numbers = [str(number) for number in range(100)]
    assert await client.echo(numbers) == numbers
    assert await ask(client) == first
    await close(client)


# Processes that end.


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[PageOf]:
    """Open the page of the servers at an address, each time as somebody else."""
    async with contextlib.AsyncExitStack() as stack:

        async def client(url: str) -> Client:
            page = visiting(browser, url + "/client.html")
            return Client(await stack.enter_async_context(page))

        yield client


@pytest.mark.timeout(180)
@pytest.mark.parametrize("configuration", SERVICES)
async def test_pages_notice_the_end_of_their_process_and_come_back_at_once(
    visit: PageOf, own_nodes: list[NodeProcess], start_haproxy: StartHaproxy, configuration: str
) -> None:
    front = start_haproxy(own_nodes, configuration, SOCKJS_CHECK="200ms")
    url = f"http://127.0.0.1:{front.port}"
    own_nodes.pop().stop()
    await front.until_status("three", "DOWN")
    clients = {transport: await visit(url) for transport in TRANSPORTS}

    async def connect(transport: str) -> int:
        client = clients[transport]
        assert await client.open(url + SERVICES[configuration], transport) == transport
        return int((await ask(client))["pid"])

    pids = {transport: await connect(transport) for transport in TRANSPORTS}
    # from the second end on all transports are where it happens
    for index, how in [(0, signal.SIGTERM), (1, signal.SIGTERM), (0, signal.SIGKILL)]:
        ended, other = own_nodes[index], own_nodes[1 - index]
        ending = in_thread(ended.stop, how)
        for transport, client in clients.items():
            if pids[transport] == ended.pid:
                await until_told(client, transport, how)
                pids[transport] = await connect(transport)
            assert (await ask(client))["pid"] == pids[transport] == other.pid
        await ending
        own_nodes[index] = ended.successor()
        assert await in_thread(getattr, own_nodes[index], "port")
        await front.until_status(["one", "two"][index], "UP")
    for client in clients.values():
        await close(client)


def in_thread(function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def until_told(client: Client, transport: str, how: signal.Signals) -> None:
    if how == signal.SIGTERM:
        assert await client.closed() == (1012, "Service restart")
        return
    if transport == "iframe-htmlfile":  # sockjs-client does not see that the stream was cut
        await client.call("say", "Is anybody there?")
    code, _ = await client.closed()
    assert code in (1002, 1006)  # as another process tells it, or as the client sees it


# Pages of another site behind the cookie.


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, url_of: Front) -> AsyncIterator[Client]:
    """A page of another site than the service's."""
    async with (
        serving(make_page_app()) as port,
        visiting(browser, f"http://localhost:{port}/client.html", ignore_https_errors=True) as page,
    ):
        yield Client(page)


@pytest.mark.parametrize("transport", ["websocket", "xhr-streaming", "xhr-polling"])
async def test_page_of_another_site_gets_the_cookie(
    url_of: Front, visitor: Client, transport: str
) -> None:
    url = url_of("by-cookie", True)
    for _ in range(4):  # without a cookie, all four would have to have luck with each request
        assert await visitor.open(url + "/foreign", transport) == transport
        first = await ask(visitor)
        for number in range(5):
            assert await visitor.echo([str(number)]) == [str(number)]
        assert await ask(visitor) == first
        await close(visitor)


async def test_eventsource_of_another_site_has_no_cookie(url_of: Front, visitor: Client) -> None:
    url = url_of("by-cookie", True)

    async def cookies(transport: str) -> Any:
        await visitor.open(url + "/visitor", transport)
        message = await visitor.call("firstMessage")
        await close(visitor)
        return json.loads(message)

    assert await cookies("xhr-streaming") == {}  # which it is given here
    assert await cookies("xhr-streaming") == {"JSESSIONID": "dummy"}
    assert await cookies("eventsource") == {}
    assert await cookies("xhr-polling") == {"JSESSIONID": "dummy"}
