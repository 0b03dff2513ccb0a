"""Sessions that end although their client is there: by age, and with their authorization."""

import asyncio
import json
import math
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from aiohttp import web

from sockjs_aio import ConnectionInfo, Grant, SockJSConnection
from sockjs_aio.core.lifetime import AGE_SPREAD, new_lifetime
from sockjs_aio.grant import LATEST, seconds_left
from sockjs_aio.multiplex import MultiplexConnection
from tests import clients
from tests.conftest import Serve
from tests.counting import count_calls
from tests.openers import ask, openers
from tests.test_close_info import Noting

Kind = type[clients.Client]
every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)


def virtual(test: Any) -> Any:
    """In real time, which uvloop has, it would take minutes."""
    return pytest.mark.virtual_time(pytest.mark.not_over("uvloop")(test))


TICK = 1.0
AGED = [1012, "Session too old"]
UNAUTHORIZED = [4401, "Authorization expired"]
DURATION = 60.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def frames_and_end(client: Any) -> tuple[list[bytes], Any]:
    """Return the frames that come, without heartbeats, and what the close frame says."""
    frames = []
    while not (frame := await client._frame()).startswith(b"c"):
        if frame not in (b"h", b""):
            frames.append(frame)
    return frames, json.loads(frame[1:])


def until_in(seconds: float) -> Callable[[web.Request], Any]:
    """Return an `authorize` that accepts the user ann for so long."""

    async def authorize(request: web.Request) -> Grant:
        return Grant("ann", until=time.time() + seconds)

    return authorize


# By age.


@virtual
@every
async def test_session_ends_at_its_age_after_its_messages(serve: Serve, kind: Kind) -> None:
    class Aging(Noting):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            later = asyncio.get_running_loop().call_later
            later(DURATION * (1 - AGE_SPREAD) - 0.001, self.send, "last")

    start = now()
    client = await kind.open(await serve(Aging, settings={"max_session_age": DURATION}))
    assert await frames_and_end(client) == ([b'a["last"]'], AGED)
    assert DURATION * (1 - AGE_SPREAD) <= now() - start <= DURATION + TICK
    assert await Aging.end() == (1012, "Session too old", "deadline")


@virtual
async def test_sessions_that_were_opened_together_end_one_after_the_other(serve: Serve) -> None:
    random.seed(5)
    served = await serve(SockJSConnection, settings={"max_session_age": 100})
    people = [await clients.WebSocket.open(served) for _ in range(50)]
    ends = []

    async def wait(client: Any) -> None:
        await frames_and_end(client)
        ends.append(now())

    await asyncio.gather(*map(wait, people))
    assert len({round(end) for end in ends}) > 12


@virtual
async def test_session_between_two_polls_gets_its_end_with_the_next(serve: Serve) -> None:
    class Between(Noting):
        pass

    settings = {"max_session_age": 2, "disconnect_delay": 60}
    client = await clients.Xhr.open(await serve(Between, settings=settings))
    assert await Between.end() == (1012, "Session too old", "deadline")
    assert await frames_and_end(client) == ([], AGED)


@virtual
async def test_end_of_a_carrier_ends_its_channels(serve: Serve) -> None:
    class Member(Noting):
        pass

    served = await serve(MultiplexConnection.get(one=Member), settings={"max_session_age": 5})
    client = await clients.WebSocket.open(served)
    await client.send("sub,one")
    assert await frames_and_end(client) == ([], AGED)
    assert await Member.end() == (1012, "Session too old", "deadline")


def test_sessions_without_a_limit_have_nothing_for_it() -> None:
    assert new_lifetime(None, None, 5) is None


async def test_limits_cost_no_timer_and_no_task(serve: Serve) -> None:
    plain, limited = (
        await serve(SockJSConnection),
        await serve(SockJSConnection, settings={"max_session_age": 60}, authorize=until_in(60)),
    )
    calls = []
    for served in (plain, limited):
        await clients.WebSocket.open(served)  # the first starts the clock
        with count_calls() as counted:
            await clients.WebSocket.open(served)
        calls.append((counted["tasks"], counted["timers"]))
    # `authorize` has a time limit of its own
    assert calls[1][0] == calls[0][0] and calls[1][1] <= calls[0][1] + 1


# With the authorization.


@virtual
@every
async def test_session_ends_with_its_authorization_after_its_messages(
    serve: Serve, kind: Kind
) -> None:
    class Expiring(Noting):
        async def on_open(self, info: ConnectionInfo) -> None:
            await super().on_open(info)
            assert info.identity == "ann"
            assert isinstance(info.until, float)
            asyncio.get_running_loop().call_later(DURATION - 1, self.send, "last")

    start = now()
    client = await kind.open(await serve(Expiring, authorize=until_in(DURATION)))
    assert await frames_and_end(client) == ([b'a["last"]'], UNAUTHORIZED)
    assert DURATION - 0.5 <= now() - start <= DURATION + TICK
    assert await Expiring.end() == (4401, "Authorization expired", "deadline")


@virtual
@every
async def test_hook_extends_and_shortens_the_time(serve: Serve, kind: Kind) -> None:
    class Renewing(Noting):
        async def on_message(self, message: str | bytes) -> None:
            self.extend(time.time() + float(message))
            self.send("extended")

    start = now()
    client = await kind.open(await serve(Renewing, authorize=until_in(20)))
    for seconds in (1000, 100):
        await client.send(str(seconds))
        assert await client.messages(1) == ["extended"]
    assert await frames_and_end(client) == ([], UNAUTHORIZED)
    assert 99 <= now() - start <= 101.5 + TICK


@virtual
@every
async def test_session_that_nothing_limits_can_be_given_an_end(serve: Serve, kind: Kind) -> None:
    class Limited(Noting):
        async def on_message(self, message: str | bytes) -> None:
            self.send("last")
            self.extend(datetime.now(timezone.utc) - timedelta(hours=1))

    start = now()
    client = await kind.open(await serve(Limited))
    await client.send("go")
    assert await frames_and_end(client) == ([b'a["last"]'], UNAUTHORIZED)
    assert now() - start <= 2 * TICK


@virtual
async def test_extend_with_none_takes_the_end_away(serve: Serve) -> None:
    class Endless(Noting):
        async def on_open(self, info: ConnectionInfo) -> None:
            self.extend(None)

    client = await clients.WebSocket.open(await serve(Endless, authorize=until_in(5)))
    heartbeats = [await client._frame() for _ in range(3)]
    assert heartbeats == [b"h"] * 3
    await client.leave()
    assert (await Endless.end())[2] == "client"


@virtual
async def test_constructor_may_extend(serve: Serve) -> None:
    class Early(Noting):
        def __init__(self, session: Any) -> None:
            super().__init__(session)
            self.extend(time.time() + 5)

    client = await clients.WebSocket.open(await serve(Early, authorize=until_in(5000)))
    start = now()
    assert await frames_and_end(client) == ([], UNAUTHORIZED)
    assert now() - start <= 5 + TICK


@virtual
async def test_channel_extends_for_its_carrier_until_it_is_closed(serve: Serve) -> None:
    class Member(Noting):
        async def on_message(self, message: str | bytes) -> None:
            self.extend(time.time() + 50)
            self.close()
            self.extend(time.time() + 5000)

    start = now()
    served = await serve(MultiplexConnection.get(one=Member), authorize=until_in(5))
    client = await clients.WebSocket.open(served)
    await client.send("sub,one", "msg,one,go")
    assert await frames_and_end(client) == ([b'a["uns,one"]'], UNAUTHORIZED)
    assert 49 <= now() - start <= 50.5 + TICK


@virtual
async def test_closed_session_is_not_extended(serve: Serve) -> None:
    class Closing(Noting):
        async def on_close(self) -> None:
            self.extend(time.time() - 5)
            await super().on_close()

    client = await clients.WebSocket.open(await serve(Closing))
    await client.send("close")
    assert await frames_and_end(client) == ([], [3456, "Done"])
    assert await Closing.end() == (3456, "Done", "server")


@virtual
async def test_authorization_counts_if_both_limits_are_reached(serve: Serve) -> None:
    slow = dict.fromkeys(("session_check_interval", "disconnect_delay", "heartbeat_delay"), 30)
    settings = {"max_session_age": 5, **slow}
    served = await serve(SockJSConnection, settings=settings, authorize=until_in(5))
    client = await clients.WebSocket.open(served)
    assert await frames_and_end(client) == ([], UNAUTHORIZED)


@pytest.mark.parametrize(
    "grant",
    [
        lambda: Grant("ann", until=time.time() - 1),
        lambda: Grant("ann", until=datetime.now(timezone.utc)),
        lambda: Grant(None, until=time.time() + 60),
        lambda: Grant(False),
        lambda: Grant(web.Response()),
    ],
)
@openers
async def test_grant_of_the_past_or_of_nobody_is_refused(
    serve: Serve, method: str, path: str, grant: Callable[[], Grant]
) -> None:
    async def authorize(request: web.Request) -> Grant:
        return grant()

    served = await serve(Noting, authorize=authorize)
    assert (await ask(served, method, path)).status == 403


async def test_grant_of_true_has_no_identity(serve: Serve) -> None:
    class Plain(Noting):
        pass

    async def authorize(request: web.Request) -> Grant:
        return Grant(True, until=time.time() + 60)

    await clients.WebSocket.open(await serve(Plain, authorize=authorize))
    await Plain.until("open")
    assert Plain.connections[0].info.identity is None


WRONG: list[tuple[type[Exception], Any]] = [
    (TypeError, "tomorrow"),
    (TypeError, True),
    (TypeError, timedelta(hours=1)),
    (ValueError, datetime(2030, 1, 1)),
    (ValueError, math.nan),
    (ValueError, math.inf),
    (ValueError, 10**20),
    (ValueError, 1.7e12),
]


@pytest.mark.parametrize(("error", "until"), WRONG)
def test_time_that_cannot_be_meant_is_refused(error: type[Exception], until: Any) -> None:
    with pytest.raises(error, match="until="):
        Grant("ann", until=until)


def test_times_may_be_seconds_or_have_a_timezone() -> None:
    for until in (time.time() + 60, int(time.time()) + 60, datetime.now(timezone.utc)):
        left = seconds_left(until)
        assert left is not None and -2 < left < 61
    assert seconds_left(None) is None
    assert seconds_left(LATEST - 1) is not None
    assert seconds_left(datetime.max.replace(tzinfo=timezone.utc)) is not None
