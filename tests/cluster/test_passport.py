"""What workers believe of each other, and not of clients; what is handed on, and what not."""

import asyncio
import json

import pytest

from sockjs_aio import ConnectionInfo, SockJSConnection
from sockjs_aio.cluster.passport import HEADER
from tests.clients import Xhr
from tests.cluster.conftest import Member, RunTeam
from tests.wire import Reply, Wire


class Told(SockJSConnection):
    infos: "list[ConnectionInfo]" = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        cls.infos = []

    async def on_open(self, info: ConnectionInfo) -> None:
        self.infos.append(info)


FORGED = [
    f"{HEADER}: relay https 192.0.2.66",
    f"{HEADER.upper()}: answer https 192.0.2.66",
    f"{HEADER.lower()}: find http -",
    f"{HEADER}: release http -",
    f"{HEADER}: nonsense",
    f"{HEADER}:",
    f"{HEADER}: relay https 192.0.2.66\r\n{HEADER}: answer https 192.0.2.66",
    f"{HEADER}-More: relay https 192.0.2.66",
    f"X-{HEADER}: relay https 192.0.2.66",
]


async def send_raw(port: int, head: str, body: bytes = b"") -> Reply:
    wire = await Wire.connect(port)
    try:
        wire.writer.write(head.encode("latin-1") + body)
        return await wire.reply()
    finally:
        wire.close()


@pytest.mark.parametrize("forged", FORGED)
async def test_a_client_s_own_passport_is_believed_by_nobody(team: RunTeam, forged: str) -> None:
    class Noting(Told):
        pass

    workers = await team(2, Noting)
    for number, served in enumerate(workers):  # at its owner, and elsewhere
        head = f"POST /echo/0/abc{number}/xhr HTTP/1.1\r\nHost: a\r\n{forged}\r\n"
        reply = await send_raw(served.port, head + "Content-Length: 0\r\n\r\n")
        assert (reply.status, reply.body) == (200, b"o\n")
        path = f"/0/abc{number}"
        assert workers.owner(path).router.session_count >= 1  # it is where it belongs
    assert [info.ip for info in Noting.infos] == ["127.0.0.1"] * 2


HOP_BY_HOP = [
    "Connection: Cookie, X-Forwarded-For",
    "Keep-Alive: timeout=1",
    "Proxy-Connection: keep-alive",
    "TE: trailers",
    "Trailer: Expires",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
]


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


async def test_header_values_arrive_byte_for_byte(team: RunTeam) -> None:
    class Noting(Told):
        pass

    workers = await team(2, Noting)
    path = "/0/abc"
    head = (
        f"POST /echo{path}/xhr?a=%ff&b=%C3%A9 HTTP/1.1\r\nHost: a\r\nX-Odd: \xff\xfe\x80 \t z\r\n"
        "X-Empty:\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await send_raw(workers.owner(path).port, head)).body == b"o\n"
    other = path
    while workers.owner_number(other) == workers.owner_number(path):
        other += "x"
    assert (await send_raw(workers.owner(path).port, head.replace(path, other))).body == b"o\n"
    direct, relayed = Noting.infos
    assert direct.headers["X-Odd"] == relayed.headers["X-Odd"]
    assert relayed.headers["X-Empty"] == ""
    assert direct.query == relayed.query


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
    before = client.relay.count
    hidden = b"POST /echo/0/hidden/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    head = f"POST /echo/0/abc/xhr_send HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"
    reply = await send_raw(client.port, head, body + hidden)
    assert reply.status == 400
    assert client.relay.count == before
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


@pytest.mark.parametrize("value", ["", "nonsense", "relay http", "steal http -"])
async def test_the_socket_between_workers_serves_workers_only(team: RunTeam, value: str) -> None:
    (worker,) = await team(1)
    reader, writer = await asyncio.open_unix_connection(worker.places.own_path)
    wire = Wire(reader, writer)
    headers = {HEADER: value} if value else {}
    reply = await wire.request("POST", "/echo/0/abc/xhr", b"", headers=headers)
    assert reply.status == 400
    wire.close()


async def test_a_request_that_was_handed_on_is_not_handed_on_again(team: RunTeam) -> None:
    """Two workers that each take the other for the owner do not play ball with a request."""
    workers = await team(2)
    path = "/0/abc"
    for worker, other in (workers, reversed(workers)):
        worker.relay._places = Always(other.places.own_path)
    assert await workers[0].poll(path) == b"o"
    assert [worker.relay.count for worker in workers] == [1, 0]


class Always:
    def __init__(self, path: str) -> None:
        self._path = path

    def find(self, session_id: str) -> str:
        return self._path


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
