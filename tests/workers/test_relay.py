"""Requests that come in at another worker than their session's."""

import asyncio
import gzip
import json
from typing import Any

import async_timeout
import pytest

from sockjs_aio import ConnectionInfo, SockJSConnection
from tests.clients import ALL, HTTP, POLLS, STREAMS, Client, Xhr
from tests.conftest import Recorder
from tests.observers import Notes
from tests.workers.conftest import Member, RunTeam, Team

each_http = pytest.mark.parametrize("transport", HTTP, ids=lambda client: client.name)
each_stream = pytest.mark.parametrize("transport", STREAMS, ids=lambda client: client.name)
each_poll = pytest.mark.parametrize("transport", POLLS, ids=lambda client: client.name)


async def open_elsewhere(workers: Team, transport: Any, **options: Any) -> Any:
    """Open a session by a worker that it does not belong to."""
    client = transport(workers[0], options)
    client.served = workers.elsewhere(client.path)
    await client.connect()
    assert await client.frame() == b"o"
    return client


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("transport", ALL, ids=lambda client: client.name)
async def test_messages_pass_whichever_worker_the_requests_come_in_at(
    team: RunTeam, transport: type[Client], count: int
) -> None:
    workers = await team(count)
    for worker in workers:
        client = await transport.open(worker)
        sent = []
        for number in range(12):
            if transport.is_http:
                client.served = workers[number % count]
            sent.append(f"{number} \u00fc \U0001f600 % & \u2028")
            await client.send(sent[-1])
        assert await client.messages(12) == sent
        await client.leave()
    assert workers.sessions <= count
    passed_on = sum(worker.passed_on for worker in workers)
    assert passed_on > 0 if transport.is_http else passed_on == 0


@each_http
async def test_a_session_is_with_one_worker_only(team: RunTeam, transport: type[Client]) -> None:
    workers = await team(3)
    client = await open_elsewhere(workers, transport)
    assert [w.router.session_count for w in workers].count(1) == 1
    assert workers.owner(client.path).router.session_count == 1


@pytest.mark.virtual_time
@each_http
async def test_relayed_send_above_the_rate_waits(team: RunTeam, transport: type[Client]) -> None:
    class Noted(Recorder):
        pass

    settings = {"message_rate": 0.0001, "message_burst": 2}
    workers = await team(2, Noted, settings=settings)
    client = await open_elsewhere(workers, transport)
    await client.send("a", "b")
    waiting = asyncio.ensure_future(client.send_payload('["c"]'))
    session: Any = Noted.connections[0].session
    async with async_timeout.timeout(20):
        while not session.pace.is_holding:
            await asyncio.sleep(0.001)
    assert not waiting.done()
    Noted.connections[0].close()
    assert await waiting in (200, 204, 404)
    assert Noted.seen[:3] == ["open", "a", "b"]
    await client.leave()


async def responses(served: Member, transport: type[Client], version: str) -> list[Any]:
    """Return what the first two receiving requests of a session of `Goodbye` get."""
    client = transport(served, {})
    method, end = client._request()  # type: ignore[attr-defined]
    headers = {"Origin": "http://a.example", "Cookie": "JSESSIONID=abc", "Connection": "keep-alive"}
    seen: list[Any] = []
    for _ in range(2):
        body = b"" if method == "POST" else None
        reply = await served.request(
            method, client.path + end, body, headers=headers, version=version
        )
        kept = [header for header in reply.headers if header[0] != "Date"]
        seen.append((reply.version, reply.status, kept, reply.body, reply.chunks))
    return seen


class Goodbye(SockJSConnection):
    async def on_open(self, info: ConnectionInfo) -> None:
        self.send("x" * 1000)
        self.close(3001, "done")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@each_http
async def test_the_client_gets_the_bytes_that_the_owner_writes(
    team: RunTeam, transport: type[Client], version: str
) -> None:
    workers = await team(2, Goodbye, {"jsessionid": True})
    seen = {0: [], 1: []}  # type: dict[int, list[Any]]
    for _ in range(6):  # the ids decide on the place
        before = workers[0].passed_on
        answers = await responses(workers[0], transport, version)
        seen[workers[0].passed_on > before].append(answers)
    assert len(seen[True] + seen[False]) == 6
    assert all(answers == (seen[True] + seen[False])[0] for answers in seen[True] + seen[False])


@each_stream
async def test_each_frame_is_a_chunk_as_the_owner_wrote_it(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2, settings={"response_limit": 1 << 22})
    client = await open_elsewhere(workers, transport)
    for size in (1, 1000, 70_000, 300_000):
        await client.send("x" * size)
        assert await client.messages(1) == ["x" * size]  # `frame` reads just one chunk


@each_http
async def test_a_body_of_a_megabyte_comes_back(team: RunTeam, transport: type[Client]) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, transport)
    message = "x" * 1_000_000
    await client.send(message)
    assert await client.messages(1) == [message]


@each_stream
async def test_a_full_stream_ends_and_the_next_goes_on(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2, settings={"response_limit": 4096})
    client = await open_elsewhere(workers, transport)
    for number in range(5):
        await client.send(f"{number}" + "x" * 4096)
        assert (await client.messages(1))[0][0] == str(number)
        assert await client.frame() == b""
        await client.connect()
        client.served = workers[number % 2]


@pytest.mark.parametrize("size", [10, 200_000])
async def test_bodies_in_chunks_and_compressed_ones_arrive(team: RunTeam, size: int) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Xhr)
    payload = json.dumps(["x" * size]).encode()
    halves = payload[:5], payload[5:]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves) + b"0\r\n\r\n"
    packed = gzip.compress(payload)
    for head, body in [
        ("Transfer-Encoding: chunked", chunks),
        (f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}", packed),
    ]:
        wire = await client.served.wire()
        wire.writer.write(
            f"POST /echo{client.path}/xhr_send HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n".encode()
        )
        wire.writer.write(body)
        assert (await wire.reply()).status == 204
        assert await client.messages(1) == ["x" * size]
        if "chunked" in head:  # as without relay, see `end_where_unsafe`
            assert await wire.is_closed()


async def test_a_client_that_waits_for_an_invitation_gets_one(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Xhr)
    wire = await client.served.wire()
    wire.writer.write(
        f"POST /echo{client.path}/xhr_send HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        "Expect: 100-continue\r\n\r\n".encode()
    )
    assert await wire.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.writer.write(b'["a"]')
    assert (await wire.reply()).status == 204
    assert await client.messages(1) == ["a"]


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_a_body_over_the_limit_is_refused(team: RunTeam, in_chunks: bool) -> None:
    class Quiet(Recorder):
        pass

    workers = await team(2, Quiet, {"max_message_size": 1000})
    client = await open_elsewhere(workers, Xhr)
    body = json.dumps(["x" * 1000]).encode()
    wire = await client.served.wire()
    how = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {len(body)}"
    wire.writer.write(
        f"POST /echo{client.path}/xhr_send HTTP/1.1\r\nHost: a\r\n{how}\r\n\r\n".encode()
    )
    wire.writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if in_chunks else body)
    reply = await wire.reply()
    assert (reply.status, reply.body) == (413, b"Payload too large.\n")
    assert Quiet.seen == ["open"]


async def test_a_body_that_stops_is_timed_at_the_owner(team: RunTeam) -> None:
    workers = await team(2, settings={"receive_timeout": 0.1})
    client = await open_elsewhere(workers, Xhr)
    wire = await client.served.wire()
    wire.send("POST", f"/echo{client.path}/xhr_send", headers={"Content-Length": "9"})
    reply = await wire.reply()
    assert (reply.status, reply.header("Connection")) == (408, "close")


async def test_a_body_that_cannot_be_unpacked_is_a_bad_request(team: RunTeam) -> None:
    workers = await team(2)
    client = await open_elsewhere(workers, Xhr)
    headers = {"Content-Encoding": "gzip"}
    status = await client.served.post(client.path, b"no gzip at all", headers=headers)
    assert status == 400


async def test_an_early_answer_does_not_wait_for_the_body(team: RunTeam) -> None:
    workers = await team(2)
    path = "/0/nobody"
    served = workers.elsewhere(path)
    wire = await served.wire()
    wire.send("POST", f"/echo{path}/xhr_send", headers={"Content-Length": "900000"})
    wire.writer.write(b"x" * 1000)
    assert (await wire.reply()).status == 404
    assert served.passed_on == 1


async def test_requests_on_one_connection_go_wherever_they_have_to(team: RunTeam) -> None:
    workers = await team(2)
    clients = [await Xhr.open(workers[0]) for _ in range(6)]
    wire = await workers[0].wire()
    for client in clients:
        body = json.dumps([client.path]).encode()
        assert (await wire.request("POST", f"/echo{client.path}/xhr_send", body)).status == 204
    for client in clients:
        assert await client.messages(1) == [client.path]


@pytest.mark.parametrize("method, status", [("OPTIONS", 204), ("PUT", 405), ("HEAD", 405)])
async def test_what_needs_no_session_is_answered_where_it_comes_in(
    team: RunTeam, method: str, status: int
) -> None:
    workers = await team(2)
    for number in range(4):
        reply = await workers[0].request(method, f"/0/{number}/xhr")
        assert reply.status == status
    assert workers[0].passed_on == 0


async def test_ids_that_differ_in_their_escapes_only_are_one_session(team: RunTeam) -> None:
    workers = await team(2)
    assert await workers[0].poll("/0/%61bc") == b"o"
    assert await workers[1].post("/0/abc", '["x"]') == 204
    assert await workers[0].poll("/0/ab%63") == b'a["x"]'
    assert workers.sessions == 1


@pytest.mark.parametrize("session_id", ["a.b", "%2e", "%ff", "x" * 300])
async def test_ids_that_are_none_are_refused_where_they_come_in(
    team: RunTeam, session_id: str
) -> None:
    workers = await team(2)
    for worker in workers:
        assert (await worker.request("POST", f"/0/{session_id}/xhr", b"")).status == 404
        assert worker.passed_on == 0


async def test_the_end_of_a_path_may_be_encoded(team: RunTeam) -> None:
    """As it may be without workers; whose session it is tells its decoded id."""
    workers = await team(2)
    for worker in workers:
        reply = await worker.request("POST", "/0/%61bc/x%68r", b"")
        assert reply.status == 200
        assert await worker.post("/0/abc", '["x"]') == 204
        assert await worker.poll("/%30/a%62c") == b'a["x"]'
        assert await worker.post("/0/abc", '["again"]') == 204
    assert workers.sessions == 1


@pytest.mark.not_over("handing-over")  # then nothing is relayed
@each_http
async def test_observers_are_told_of_what_is_relayed_and_of_a_refusal_once(
    team: RunTeam, transport: type[Client]
) -> None:
    workers = await team(2)
    notes = [Notes(), Notes()]
    for worker, noted in zip(workers, notes, strict=True):
        worker.router.observe(noted)
    client = await open_elsewhere(workers, transport)
    owner, other = (notes[workers.index(x)] for x in (workers.owner(client.path), client.served))
    assert other.named("relayed")[0] == (transport.name,)
    assert owner.names == ["opened"]
    assert await client.send_payload("[") == 500
    assert [reason for reason, _, _ in owner.named("refused")] == ["bad_request"]
    assert set(other.names) == {"relayed"}
    assert client.served.router.stats.relayed == len(other.named("relayed"))
    await client.leave()
