"""The Python client, on the services that sockjs-client's own tests use, with what they expect."""

from collections.abc import AsyncIterator

import async_timeout
import pytest

from examples.protocol_server import make_app
from sockjs_aio.client import connect
from sockjs_aio.testing import serve
from tests.client.test_connections import every_transport
from tests.conftest import PATIENCE


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The URL of the standard test server."""
    async with serve(make_app()) as url, async_timeout.timeout(PATIENCE):
        yield url


@every_transport
async def test_batches_and_all_of_unicode_are_echoed(url: str, name: str) -> None:
    planes = ["".join(map(chr, range(first, first + 256))) for first in range(0, 0xD800, 256)]
    texts = [*planes, "\U0001d306", '"\\u0000"', "x" * 4096]
    async with connect(url + "/echo", transports=name) as socket:
        for text in texts:
            await socket.send(text)
        assert [await socket.receive() for _ in texts] == texts


@every_transport
async def test_service_that_closes_at_once_says_go_away(url: str, name: str) -> None:
    async with connect(url + "/close", transports=name) as socket:
        assert [message async for message in socket] == []
    assert (socket.close_code, socket.close_reason) == (3000, "Go away!")


@every_transport
async def test_messages_up_to_half_a_megabyte_are_amplified(url: str, name: str) -> None:
    async with connect(url + "/amplify", transports=name) as socket:
        for power in (0, 7, 13, 19):
            await socket.send(str(power))
            assert await socket.receive() == "x" * 2**power


@every_transport
async def test_all_hear_a_broadcast(url: str, name: str) -> None:
    async with (
        connect(url + "/broadcast", transports=name) as first,
        connect(url + "/broadcast", transports=name) as second,
    ):
        await second.send("hello")
        assert await first.receive() == await second.receive() == "hello"


@pytest.mark.parametrize("service", ["disabled_websocket_echo", "cookie_needed_echo"])
async def test_transport_is_found(url: str, service: str) -> None:
    async with connect(f"{url}/{service}") as socket:
        is_disabled = service.startswith("disabled")
        assert socket.transport == ("xhr_streaming" if is_disabled else "websocket")
        await socket.send("a")
        assert await socket.receive() == "a"
