"""What `connect` and a socket refuse, with an error that says what to do."""

from typing import Any

import pytest

from sockjs_aio import SettingsError
from sockjs_aio.client import TRANSPORTS, ClientOptions, ConnectError, connect
from sockjs_aio.client.address import Address
from sockjs_aio.protocol import transports
from tests.client.scripted import response, scripted
from tests.conftest import Echo, Serve


@pytest.mark.parametrize(
    "url", ["/chat", "chat", "ws://a/chat", "http://", "", "http://[", None, 5, "http://a:x/"]
)
def test_urls_that_are_not_a_services_are_refused(url: Any) -> None:
    with pytest.raises(SettingsError, match=r"connect\("):
        connect(url)


@pytest.mark.parametrize("names", ["xhr-polling", ["websocket", "xhr_send"], "", [""]])
def test_transports_that_there_are_not_are_refused(names: Any) -> None:
    with pytest.raises(SettingsError, match="for sockjs-client's xhr-polling write xhr"):
        connect("http://a/chat", transports=names)


def test_client_has_every_transport_that_the_server_has() -> None:
    receiving = {name for name, row in transports.TRANSPORTS.items() if row.receives}
    assert receiving == {*TRANSPORTS, "rawwebsocket"}


def test_no_transport_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one transport"):
        connect("http://a/chat", transports=[])


@pytest.mark.parametrize("value", [0, -1, "5", None, True, float("nan"), float("inf")])
def test_options_are_numbers_above_zero(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"open_timeout=.* a number of seconds above 0"):
        ClientOptions(open_timeout=value)
    with pytest.raises(SettingsError, match=r"max_frame_size=.* a whole number of bytes above 0"):
        ClientOptions(max_frame_size=value if isinstance(value, int) and value < 1 else 1.5)  # type: ignore[arg-type]


def test_query_stays_and_secrets_are_not_shown() -> None:
    address = Address("https://ann:pw@example.com/a%2Fb/chat/?x=%2B+1&y=a%26b#part")
    url = "https://ann:pw@example.com/a%2Fb/chat/info?x=%2B+1&y=a%26b"
    assert str(address.below("/info")) == url
    assert str(address) == "https://example.com/a%2Fb/chat"


async def test_send_and_close_check_what_they_get(serve: Serve) -> None:
    served = await serve(Echo)
    for name in ("websocket", "xhr"):
        async with connect(served.url(), transports=name, session=served.session) as socket:
            with pytest.raises(TypeError, match="send takes a str, not 5"):
                await socket.send(5)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="SockJS messages are str"):
                await socket.send(b"bytes")
            with pytest.raises(ValueError, match="from 3000 to 4999"):
                await socket.close(1006)
            with pytest.raises(ValueError, match="123 bytes"):
                await socket.close(1000, "ä" * 62)
            await socket.send("still open")
            assert await socket.receive() == "still open"


async def test_raw_websocket_carries_bytes(serve: Serve) -> None:
    served = await serve(Echo)
    async with connect(served.url(), transports="rawwebsocket", session=served.session) as socket:
        await socket.send(b"\0\xff")
        assert await socket.receive() == b"\0\xff"


async def test_closed_session_is_named(serve: Serve) -> None:
    served = await serve(Echo)
    await served.session.close()
    with pytest.raises(ConnectError, match="the ClientSession that you passed"):
        async for _ in connect(served.url(), session=served.session):
            raise AssertionError("it cannot connect")


async def test_base_url_is_followed() -> None:
    async with scripted(xhr=response(b"o\n")) as other, scripted() as server:
        server.answers["info"] = response(b'{"base_url": "%b"}' % other.url.encode())
        async with connect(server.url, transports="xhr"):
            assert (server.requests, other.requests[:1]) == (["info"], ["xhr"])
