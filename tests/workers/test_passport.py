"""What workers believe of each other, and not of clients; what is handed on, and what not."""

import asyncio
import json
import time

import pytest

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.cluster.relay.peers import Peer
from sockjs_aio.cluster.relay.signed_header import (
    HEADER,
    VALIDITY,
    HeaderSigner,
    Purpose,
    SignedHeader,
)
from sockjs_aio.cluster.workers.placement import worker_at
from sockjs_aio.server.service import Service
from tests.clients import Xhr
from tests.wire import Reply, Wire
from tests.workers.conftest import Member, RunTeam

# the owner parses what was handed over itself
of_relay = pytest.mark.not_over("handing-over")


class Told(SockJSConnection):
    infos: "list[ConnectionInfo]" = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        cls.infos = []

    async def on_open(self, info: ConnectionInfo) -> None:
        self.infos.append(info)


KEY = b"the key of all processes of these tests"
PATH = "/echo/0/abc/xhr"


def made_by(
    key: bytes, purpose: str, *, method: str = "POST", target: str = PATH, age: float = 0
) -> str:
    """Return a signed header by which a client comes by TLS from 192.0.2.66."""
    signer = HeaderSigner(key, lambda: time.time() - age)
    return signer.issue(SignedHeader(Purpose(purpose), "https", "192.0.2.66"), method, target)


def forgeries() -> dict[str, list[str]]:
    """Return what a client might send, and what it is; made anew, as they expire."""
    good = made_by(KEY, "relay")
    fields, _, signature = good.rpartition(" ")
    purpose, scheme, _, issued = fields.split(" ")
    return {
        "unsigned": ["relay https 192.0.2.66"],
        "garbled": ["nonsense"],
        "empty": [""],
        "not ASCII": ["relay https 192.0.2.66 1 \xe9\xff"],
        "blanks": ["  ".join(good.split(" "))],
        "another key": [made_by(b"of somebody else", "relay")],
        "another method": [made_by(KEY, "relay", method="GET")],
        "another path": [made_by(KEY, "relay", target=PATH.replace("abc", "abd"))],
        "another query": [made_by(KEY, "relay", target=PATH + "?a=b")],
        "another purpose": [good.replace(purpose, "answer")],
        "another scheme": [good.replace(scheme, "http ")],
        "another address": [good.replace("192.0.2.66", "192.0.2.67")],
        "another time": [good.replace(issued, str(int(issued) + 1))],
        "half a signature": [good[:-32]],
        "too long a signature": [good + "0"],
        "signature in capitals": [f"{fields} {signature.upper()}"],
        "of the future": [made_by(KEY, "relay", age=-VALIDITY - 60)],
        "two": [good, made_by(KEY, "answer")],
        "a good one and a bad one": [good, "nonsense"],
    }


async def send_raw(port: int, head: str, body: bytes = b"") -> Reply:
    wire = await Wire.connect(port)
    try:
        wire.writer.write(head.encode("latin-1") + body)
        return await wire.reply()
    finally:
        wire.close()


def request_with(values: list[str], name: str = HEADER) -> str:
    lines = "".join(f"{name}: {value}\r\n" for value in values)
    return f"POST {PATH} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize("name", forgeries())
async def test_a_forged_passport_is_refused_wherever_it_comes_in(team: RunTeam, name: str) -> None:
    workers = await team(2, key=KEY)
    values = forgeries()[name]
    for served in workers:  # at its owner, and elsewhere
        reply = await send_raw(served.port, request_with(values))
        assert reply.status == 403
        assert reply.body == b"The Sockjs-Relay header is not valid.\n"
        assert (await send_raw(served.port, request_with(values, HEADER.upper()))).status == 403
        reader, writer = await asyncio.open_unix_connection(served.placement.own_path)
        wire = Wire(reader, writer)
        wire.writer.write(request_with(values).encode("latin-1"))
        assert (await wire.reply()).status == 403
        wire.close()
    assert workers.sessions == 0
    assert sum(worker.relay.exchanges.count for worker in workers) == 0


@pytest.mark.parametrize("purpose", ["relay", "answer", "find", "release"])
async def test_what_comes_too_late_is_not_called_forged(team: RunTeam, purpose: str) -> None:
    """A worker that was held up reads only then what has waited for it."""
    workers = await team(2, key=KEY)
    late = [made_by(KEY, purpose, age=VALIDITY + 60)]
    for served in workers:
        reply = await send_raw(served.port, request_with(late))
        assert (reply.status, reply.header("Retry-After")) == (503, "5")
    assert workers.sessions == 0
    assert sum(worker.relay.exchanges.count for worker in workers) == 0


@pytest.mark.parametrize("age", [0, 5 - VALIDITY, VALIDITY - 5])
async def test_a_passport_is_good_for_a_while(team: RunTeam, age: float) -> None:
    class Noting(Told):
        pass

    workers = await team(2, Noting, key=KEY)
    reply = await send_raw(workers[0].port, request_with([made_by(KEY, "answer", age=age)]))
    assert reply.body == b"o\n"
    assert [info.ip for info in Noting.infos] == ["192.0.2.66"]


@pytest.mark.parametrize("name", [f"{HEADER}-More", f"X-{HEADER}"])
async def test_headers_of_similar_names_mean_nothing(team: RunTeam, name: str) -> None:
    class Noting(Told):
        pass

    workers = await team(2, Noting, key=KEY)
    reply = await send_raw(
        workers.elsewhere("/0/abc").port, request_with([made_by(KEY, "answer")], name)
    )
    assert reply.body == b"o\n"
    assert [info.ip for info in Noting.infos] == ["127.0.0.1"]


async def test_forged_passports_are_logged_once_a_minute(
    team: RunTeam, caplog: pytest.LogCaptureFixture
) -> None:
    workers = await team(1)
    for _ in range(5):
        await send_raw(workers[0].port, request_with(["nonsense"]))
    (record,) = [record for record in caplog.records if HEADER in record.getMessage()]
    assert record.levelname == "WARNING"
    assert "127.0.0.1" in record.getMessage()
    assert "nonsense" not in record.getMessage()


async def test_a_refused_body_is_not_unpacked(team: RunTeam) -> None:
    workers = await team(1)
    head = f"POST {PATH}_send HTTP/1.1\r\nHost: a\r\n{HEADER}: x\r\nContent-Encoding: gzip\r\n"
    reply = await send_raw(workers[0].port, head + "Content-Length: 900000\r\n\r\n", b"\x1f\x8b")
    assert (reply.status, reply.header("Connection")) == (403, "close")


def test_there_are_no_passports_without_a_key() -> None:
    with pytest.raises(ValueError, match="need a secret"):
        HeaderSigner(b"")


HOP_BY_HOP = [
    "Connection: Cookie, X-Forwarded-For",
    "Keep-Alive: timeout=1",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: Expires",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
]


@of_relay
@pytest.mark.parametrize("line", HOP_BY_HOP)
async def test_what_concerns_one_connection_stays_there_and_drops_nothing_else(
    team: RunTeam, line: str
) -> None:
    class Noting(Told):
        pass

    workers = await team(2, Noting)
    path = "/0/abc"
    head = (
        f"POST /echo{path}/xhr HTTP/1.1\r\nHost: a\r\n{line}\r\nCookie: a=b\r\n"
        "X-Forwarded-For: 192.0.2.1\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await send_raw(workers.elsewhere(path).port, head)).body == b"o\n"
    (info,) = Noting.infos
    assert info.cookies == {"a": "b"}
    assert info.headers["X-Forwarded-For"] == "192.0.2.1"
    name = line.partition(":")[0]
    if name != "Connection":
        assert name not in info.headers


async def test_the_owner_sees_paths_and_headers_as_they_came(team: RunTeam) -> None:
    class Noting(Told):
        pass

    workers = await team(2, Noting)
    path = "/0/abc"
    head = (
        f"POST /echo{path}/xhr?a=%ff&b=%C3%A9&c=a+b&&d=// HTTP/1.1\r\nHost: a:80\r\n"
        "X-Odd: \u00c3\u00a9 \t z\r\nX-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    assert (await send_raw(workers.owner(path).port, head)).body == b"o\n"
    other = path
    while workers.owner_number(other) == workers.owner_number(path):
        other += "x"
    assert (await send_raw(workers.owner(path).port, head.replace(path, other))).body == b"o\n"
    direct, relayed = Noting.infos
    added = [HEADER]
    assert [x for x in relayed.headers.items() if x[0] not in added] == [
        x for x in direct.headers.items() if x[0] != "Content-Length"
    ] + [("Content-Length", "0")]
    assert direct.headers["X-Odd"] == "\u00e9 \t z"
    assert direct.query == relayed.query
    assert len(direct.query) == 4


@of_relay
@pytest.mark.parametrize(
    "odd, seen", [("\xff\xfe\x80", "\ufffd" * 3), ("\xe9t\xe9", "\ufffdt\ufffd")]
)
async def test_bytes_of_headers_that_are_no_utf_8_are_replaced(
    team: RunTeam, odd: str, seen: str
) -> None:
    """aiohttp's client writes no others."""

    class Noting(Told):
        pass

    workers = await team(2, Noting)
    head = f"POST /echo/0/abc/xhr HTTP/1.1\r\nHost: a\r\nX-Odd: {odd}\r\nContent-Length: 0\r\n\r\n"
    assert (await send_raw(workers.elsewhere("/0/abc").port, head)).body == b"o\n"
    assert Noting.infos[0].headers["X-Odd"] == seen


async def test_a_target_with_scheme_and_host_is_handed_on(team: RunTeam) -> None:
    workers = await team(2)
    path = "/0/abc"
    head = f"POST http://a.example/echo{path}/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    assert (await send_raw(workers.elsewhere(path).port, head)).body == b"o\n"


SMUGGLING = [
    ("Content-Length: 5\r\nContent-Length: 6", b'["a"]x'),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity", b"0\r\n\r\n"),
    ("Content-Length: +5", b'["a"]'),
    ("Content-Length: 5\x0b", b'["a"]'),
]


@pytest.mark.logs("BadHttpMessage")  # aiohttp's own
@pytest.mark.parametrize("framing, body", SMUGGLING)
async def test_a_body_whose_length_is_in_doubt_is_not_handed_on(
    team: RunTeam, framing: str, body: bytes
) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, "/0/abc")
    before = client.relay.exchanges.count
    hidden = b"POST /echo/0/hidden/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    head = f"POST /echo/0/abc/xhr_send HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"
    reply = await send_raw(client.port, head, body + hidden)
    assert reply.status == 400
    assert client.relay.exchanges.count == before
    assert workers.sessions == 1


async def open_elsewhere(workers: "list[Member]", path: str) -> Member:
    served: Member = workers.elsewhere(path)  # type: ignore[attr-defined]
    assert await served.poll(path) == b"o"
    return served


async def test_requests_behind_each_other_stay_apart(team: RunTeam) -> None:
    workers = await team(2)
    paths = [f"/0/{number}" for number in range(8)]
    wire = await workers[0].wire()
    for path in paths:
        wire.send("POST", f"/echo{path}/xhr", b"")
        wire.send("POST", f"/echo{path}/xhr_send", json.dumps([path]))
    for _ in paths:
        assert (await wire.reply()).body == b"o\n"
        assert (await wire.reply()).status == 204
    for path in paths:
        assert await workers[1].poll(path) == f'a["{path}"]'.encode()


@of_relay
async def test_a_request_that_was_handed_on_is_not_handed_on_again(team: RunTeam) -> None:
    """Two workers that each take the other for the owner do not play ball with a request."""
    workers = await team(2)
    path = "/0/abc"
    for worker, other in (workers, reversed(workers)):
        worker.locator.placement = Always(worker_at(other.placement.own_path))
    assert await workers[0].poll(path) == b"o"
    assert [worker.relay.exchanges.count for worker in workers] == [1, 0]


class Always:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def owner(self, session_id: str, service: Service, opens: bool) -> Peer:
        return self._peer

    async def close(self) -> None:
        await self._peer.client.close()


async def test_clients_cannot_foresee_their_worker(team: RunTeam) -> None:
    first, second = await team(8), await team(8)
    names = [f"/0/{number}" for number in range(64)]
    spread = [[workers.owner_number(name) for name in names] for workers in (first, second)]
    assert spread[0] != spread[1]
    assert len(set(spread[0])) == 8


async def test_a_session_with_any_id_is_placed(team: RunTeam) -> None:
    workers = await team(2)
    client = await Xhr.open(workers[0])
    client.path = "/000/%F0%9F%98%80"
    for served in workers:
        assert await served.post(client.path, "[]") == 404
