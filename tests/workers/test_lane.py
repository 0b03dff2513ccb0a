"""The direct lane behind workers: it answers what a worker has itself, and keeps nothing else."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.workers import handover_links
from tests.cases import case
from tests.conftest import Echo
from tests.lanes import answered as answered
from tests.wire import Reply, Wire
from tests.workers.conftest import RunTeam, Team
from tests.workers.test_handover import (
    counts,
    path_at,
    pause,
    request,
    until,
    until_counted,
    until_waiting,
)

pytestmark = [
    pytest.mark.skipif(
        not handover_links.is_possible(), reason="this system cannot pass sockets in messages"
    ),
    pytest.mark.not_over("lane-on", "lane-off", "handing-over"),  # here it is said what there is
]

LANE = {"direct_requests": None}


async def ask(wire: Wire, path: str, end: str, body: bytes = b"") -> Reply:
    return await wire.request("POST", f"/echo{path}/{end}", body)


async def begin(workers: Team, path: str, at: int) -> Wire:
    """Open a session, and make a connection at a worker with a lane that may answer next."""
    wire = await workers[at].wire()
    assert (await ask(wire, path, "xhr")).body == b"o\n"
    for _ in range(2):
        assert (await ask(wire, path, "xhr_send", b"[]")).status == 204
    return wire


async def echo(wire: Wire, path: str) -> None:
    assert (await ask(wire, path, "xhr_send", b'["a"]')).status == 204
    assert (await ask(wire, path, "xhr")).body == b'a["a"]\n'


@pytest.mark.parametrize("at", [0, 1])
async def test_a_worker_answers_its_own_sessions_in_the_lane(
    team: RunTeam, answered: list[str], at: int
) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    path = path_at(workers, 0)
    wire = await begin(workers, path, at)
    answered.clear()
    for _ in range(3):
        await echo(wire, path)
    assert answered == ["xhr_send", "xhr"] * 3
    assert counts(workers)[1] == 0


async def test_a_stream_is_answered_in_the_lane(team: RunTeam, answered: list[str]) -> None:
    workers = await team(2, Echo, {**LANE, "response_limit": 5}, handing_over=True)
    path = path_at(workers, 0)
    wire = await begin(workers, path, 1)
    answered.clear()
    assert (await ask(wire, path, "xhr_send", b'["a"]')).status == 204
    assert (await ask(wire, path, "xhr_streaming")).chunks[-1] == b'a["a"]\n'
    assert answered == ["xhr_send", "xhr_streaming"]


@pytest.mark.parametrize("asked", [None, True])
async def test_other_middlewares_count_as_they_do_in_one_process(
    team: RunTeam, answered: list[str], asked: bool | None
) -> None:
    seen = []

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request.path)
        return await handler(request)

    settings = {"direct_requests": asked}
    workers = await team(2, Echo, settings, handing_over=True, middlewares=[middleware])
    path = path_at(workers, 0)
    wire = await begin(workers, path, 0)
    seen.clear()
    answered.clear()
    await echo(wire, path)
    assert len(answered) == (2 if asked else 0)
    assert len(seen) == (0 if asked else 2)


async def test_a_connection_with_a_lane_goes_to_another_worker_and_has_one_there(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    paths = [path_at(workers, number) for number in range(2)]
    wire = await begin(workers, paths[0], 0)
    assert await workers[1].poll(paths[1]) == b"o"
    for changes in range(1, 7):
        answered.clear()
        for _ in range(3):
            await echo(wire, paths[changes % 2])
        assert answered[-4:] == ["xhr_send", "xhr"] * 2
        await until_counted(workers, (changes, 0))
        await until_waiting(workers[changes % 2])


async def test_requests_of_other_workers_are_relayed_through_a_lane(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, LANE)
    own, other = (path_at(workers, number) for number in range(2))
    wire = await begin(workers, own, 0)
    assert await workers[1].poll(other) == b"o"
    answered.clear()
    for _ in range(3):
        await echo(wire, other)
    assert counts(workers) == (0, 6)
    assert answered == []
    await echo(wire, own)
    assert answered == ["xhr_send", "xhr"]


async def test_a_relayed_stream_may_come_over_a_connection_with_a_lane(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, {**LANE, "response_limit": 5})
    own, other = (path_at(workers, number) for number in range(2))
    wire = await begin(workers, own, 0)
    assert await workers[1].poll(other) == b"o"
    for _ in range(3):
        assert (await ask(wire, other, "xhr_send", b'["a"]')).status == 204
        assert (await ask(wire, other, "xhr_streaming")).chunks[-1] == b'a["a"]\n'
        await echo(wire, own)
    assert counts(workers) == (0, 6)


async def test_a_lane_in_front_of_another_worker_does_not_answer_what_that_relays(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, LANE)
    path = path_at(workers, 1)
    wire = await workers[0].wire()
    assert (await ask(wire, path, "xhr")).body == b"o\n"
    for _ in range(4):
        await echo(wire, path)
    assert answered == []
    assert counts(workers) == (0, 9)


async def test_what_is_held_behind_a_poll_keeps_the_connection(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    own, other = (path_at(workers, number) for number in range(2))
    assert await workers[1].poll(other) == b"o"
    wire = await begin(workers, own, 0)
    answered.clear()
    pieces = [
        request(own, "xhr"),
        request(other, "xhr_send", b'["1"]'),
        request(own, "xhr_send", b'["2"]'),
        request(other, "xhr"),
        request(own, "xhr"),
    ]
    for piece in pieces:
        wire.writer.write(piece)
        await pause()
    assert answered == ["xhr"]
    assert await workers[0].post(own, '["first"]') == 204
    replies = [await wire.reply() for _ in pieces]
    assert [reply.status for reply in replies] == [200, 204, 204, 200, 200]
    bodies = [reply.body for reply in replies if reply.status == 200]
    assert bodies == [b'a["first"]\n', b'a["1"]\n', b'a["2"]\n']


async def test_the_last_that_is_held_may_take_the_connection_with_it(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    own, other = (path_at(workers, number) for number in range(2))
    assert await workers[1].poll(other) == b"o"
    wire = await begin(workers, own, 0)
    for piece in (request(own, "xhr"), request(other, "xhr_send", b'["1"]')):
        wire.writer.write(piece)
        await pause()
    assert await workers[0].post(own, '["first"]') == 204
    assert (await wire.reply()).body == b'a["first"]\n'
    assert (await wire.reply()).status == 204
    await until_counted(workers, (1, 0))
    assert (await ask(wire, other, "xhr")).body == b'a["1"]\n'


async def test_a_refused_connection_keeps_its_lane(team: RunTeam, answered: list[str]) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    own, other = (path_at(workers, number) for number in range(2))
    assert await workers[1].poll(other) == b"o"
    wire = await begin(workers, own, 0)
    workers[1].handovers.close_intake()
    for _ in range(3):
        await echo(wire, other)
        answered.clear()
        await echo(wire, own)
        assert "xhr" in answered
    assert counts(workers) == (0, 6)


async def test_a_signed_header_is_verified_behind_a_lane(
    team: RunTeam, answered: list[str]
) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    path = path_at(workers, 0)
    wire = await begin(workers, path, 0)
    forged = request(path, "xhr_send", b'["a"]', "Sockjs-Relay: relay http - 1 abc\r\n")
    answered.clear()
    wire.writer.write(forged)
    assert (await wire.reply()).status == 403
    assert answered == []


# Workers that retire.


async def closing(workers: Team, path: str, what: str) -> bytes:
    """Retire a worker, have it answer a request, and return what comes before it closes."""
    wire = await begin(workers, path, 0)
    if what == "waiting poll":
        wire.writer.write(request(path, "xhr"))
        await pause()
        workers[0].gateway.retire()
        assert await workers[0].post(path, '["a"]') == 204
    else:
        workers[0].gateway.retire()
        body = b'["a"]' if what == "xhr_send" else b""
        if what == "xhr":
            assert await workers[0].post(path, '["a"]') == 204
        wire.writer.write(request(path, what, body))
    return await wire.reader.read()


@pytest.mark.parametrize("what", ["waiting poll", "xhr", "xhr_send"])
async def test_a_worker_that_retires_closes_each_connection_after_its_next_response(
    team: RunTeam, answered: list[str], what: str
) -> None:
    replies = []
    for lane in (True, False):
        workers = await team(2, Echo, {"direct_requests": lane}, handing_over=True)
        answered.clear()
        data = await closing(workers, path_at(workers, 0), what)
        replies.append([line for line in data.split(b"\r\n") if not line.startswith(b"Date: ")])
        # what had begun before
        waiting = ["xhr"] if what == "waiting poll" else []
        assert answered == (["xhr_send", *waiting] if lane else [])
    assert replies[0] == replies[1]
    assert b"Connection: close" in replies[0]


async def test_what_comes_behind_the_last_response_is_not_answered(
    team: RunTeam, answered: list[str]
) -> None:
    for lane in (True, False):
        with case(lane):
            workers = await team(2, Echo, {"direct_requests": lane}, handing_over=True)
            path = path_at(workers, 0)
            wire = await begin(workers, path, 0)
            for data in (request(path, "xhr"), request(path, "xhr_send", b'["behind"]')):
                wire.writer.write(data)
                await pause()
            workers[0].gateway.retire()
            assert await workers[0].post(path, '["a"]') == 204
            assert (await wire.reply()).body == b'a["a"]\n'
            assert await wire.is_closed()
            polling = asyncio.create_task(workers[0].poll(path))
            assert await workers[0].post(path, '["next"]') == 204
            assert await polling == b'a["next"]'


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming"])
async def test_the_end_of_a_worker_waits_for_what_its_lanes_answer(
    team: RunTeam, answered: list[str], transport: str
) -> None:
    workers = await team(2, Echo, LANE, handing_over=True)
    path = path_at(workers, 0)
    wire = await begin(workers, path, 1)
    answered.clear()
    wire.send("POST", f"/echo{path}/{transport}", b"")
    await until(lambda: answered == [transport])
    cleaning = asyncio.create_task(workers[0].runner.cleanup())
    reply = await wire.reply()
    assert b'c[3000,"Go away!"]' in reply.body or b"c[1012" in reply.body
    await cleaning
