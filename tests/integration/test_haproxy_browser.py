"""sockjs-client in a real browser, through the real haproxy in each of its configurations."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.integration.browser import Client, launched, make_page_app, serving, visiting
from tests.integration.haproxy import Haproxy, make_certificate
from tests.integration.node import NodeProcess

pytestmark = [
    pytest.mark.browser,
    pytest.mark.haproxy,
    pytest.mark.asyncio(loop_scope="module"),
]

SERVICES = {"by-session": "/echo", "by-cookie": "/cookie"}

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
PageOf = Callable[[str], Awaitable[Client]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def url_of(
    program: str, nodes: list[NodeProcess], tmp_path_factory: pytest.TempPathFactory
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
                nodes,
                configuration,
                certificate=certificate if has_tls else None,
            )
        return f"http{'s' * has_tls}://127.0.0.1:{fronts[key].port}"

    yield url
    for front in fronts.values():
        front.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
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


# Pages of another site behind the cookie.


@pytest_asyncio.fixture(loop_scope="module")
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
