"""WebSocket subprotocols: RFC 6455, sections 4.2.2 and 11.3.4."""

import aiohttp
import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo
from tests.cases import case
from tests.conftest import Recorder, Serve, Served
from tests.websocket_wire import HANDSHAKE
from tests.wire import Reply

both = pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])

REFUSAL = b"None of the offered WebSocket subprotocols is supported.\n"


async def ask(served: Served, path: str, *offers: str) -> Reply:
    """Offer subprotocols in headers of their own."""
    head = [f"GET {served.prefix}{path} HTTP/1.1", "Host: localhost"]
    head += [f"{name}: {value}" for name, value in HANDSHAKE.items()]
    head += [f"Sec-WebSocket-Protocol: {offer}" for offer in offers]
    wire = await served.wire()
    wire.writer.write("\r\n".join([*head, "", ""]).encode("utf-8", "surrogateescape"))
    reply = await wire.head()
    if length := reply.header("Content-Length"):
        reply.body = await wire.reader.readexactly(int(length))
        assert await wire.is_closed()
    return reply


@both
@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        (["v12.stomp"], "v12.stomp"),
        (["v10.stomp, v11.stomp, v12.stomp"], "v11.stomp"),
        (["v12.stomp,v11.stomp"], "v12.stomp"),
        (["mqtt,\tv12.stomp ,"], "v12.stomp"),
        (["mqtt", "v12.stomp"], "v12.stomp"),
        ([], None),
    ],
)
async def test_first_of_the_clients_that_is_spoken_is_agreed_on(
    serve: Serve, path: str, offers: list[str], chosen: str | None
) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.seen.append(("open", info.protocol, self.info.protocol))

    served = await serve(Noted, settings={"protocols": ["v11.stomp", "v12.stomp"]})
    reply = await ask(served, path, *offers)
    assert reply.status == 101
    assert reply.header("Sec-WebSocket-Protocol") == chosen
    await Noted.until(("open", chosen, chosen))


UNSPOKEN = [
    *("mqtt", "V12.STOMP", "v12", "v12.stomp2", "", ",", "<b>,, ,chat", "a" * 5000),
    *("\u00e9", '"v12.stomp"'),
]


@both
@pytest.mark.parametrize("spoken", [(), ["v12.stomp"]], ids=["none", "another"])
async def test_offer_of_which_nothing_is_spoken_opens_no_session(
    serve: Serve, path: str, spoken: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    class Noted(Recorder):
        pass

    asked = []

    async def authorize(request: web.Request) -> bool:
        asked.append(request)
        return True

    caplog.set_level("INFO")
    for offer in UNSPOKEN:
        with case(offer[:12]):
            # a server each, as each logs only the first in a while
            served = await serve(Noted, settings={"protocols": spoken}, authorize=authorize)
            caplog.clear()
            reply = await ask(served, path, offer)
            assert (reply.status, reply.body) == (400, REFUSAL)
            assert (Noted.seen, asked, served.router.session_count) == ([], [], 0)
            (record,) = caplog.records
            assert (record.name, record.levelname) == ("sockjs_aio.transports", "INFO")
            assert record.getMessage().startswith("refused a WebSocket: none of its subprotocols")
            assert len(record.getMessage()) < 300


@pytest.mark.parametrize("spoken", [(), ["v12.stomp"]], ids=["none", "another"])
async def test_client_whose_offer_was_refused_may_use_its_session_id_for_another_transport(
    serve: Serve, spoken: list[str]
) -> None:
    """As Spring's client does; sockjs-client takes a new id."""

    class Noted(Recorder):
        pass

    served = await serve(Noted, settings={"protocols": spoken})
    for path in ("/0/1/websocket", "/websocket"):
        assert (await ask(served, path, "v10.stomp,v11.stomp")).status == 400
    assert await served.poll("/0/1") == b"o"
    assert await served.post("/0/1", '["a"]') == 204


async def test_aiohttps_client_agrees(serve: Serve) -> None:
    served = await serve(settings={"protocols": {"chat"}})
    async with served.websocket(protocols=["other", "chat"]) as socket:
        assert socket.protocol == "chat"
        assert (await socket.receive()).data == "o"
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with served.websocket(protocols=["other"]):
            pass


@pytest.mark.parametrize("polled", ["xhr", "xhr_streaming"])
async def test_other_transports_have_no_protocol(serve: Serve, polled: str) -> None:
    class Noted(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.seen.append(info.protocol)

    served = await serve(Noted, settings={"protocols": ["chat"]})
    wire = await served.wire()
    headers = {"Sec-WebSocket-Protocol": "chat"}
    wire.send("POST", f"{served.prefix}/0/1/{polled}", b"", headers=headers)
    assert (await wire.head()).status == 200
    await Noted.until(None)


async def test_raw_websockets_can_be_told_apart_in_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Noted(Recorder):
        pass

    caplog.set_level("DEBUG", logger="sockjs_aio")
    served = await serve(Noted)
    for _ in range(20):
        assert (await ask(served, "/websocket")).status == 101
    await Noted.until("open", 20)
    assert len({str(connection.session) for connection in Noted.connections}) > 15
    assert len({connection.session.id for connection in Noted.connections}) == 20
    for connection in Noted.connections:
        assert f"session {connection.session}: opened from 127.0.0.1" in caplog.messages
