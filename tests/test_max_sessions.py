"""How many sessions there may be, in all and for one address; each way out makes room again."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from aiohttp_remotes import XForwardedRelaxed
from aiohttp_remotes import setup as set_up_remotes

from sockjs_aio.core.address_counter import AddressCounter
from tests import clients
from tests.conftest import SHORT, Echo, Recorder, Serve, Served
from tests.openers import REQUESTS, UPGRADE, ask, openers

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
limits = pytest.mark.parametrize(
    ("limit", "status"), [("max_sessions", 503), ("max_sessions_per_ip", 429)]
)
Kind = type[clients.Client]


# One over the limit.


@openers
@limits
async def test_one_more_is_refused_and_told_to_wait(
    serve: Serve, method: str, path: str, limit: str, status: int
) -> None:
    served = await serve(Echo, settings={limit: 2})
    assert await served.poll("/0/first") == b"o"
    other = await clients.WebSocket.open(served)
    reply = await ask(served, method, path)
    assert (reply.status, reply.header("Retry-After")) == (status, "5")
    assert served.router.session_count == 2
    assert await served.post("/0/first", '["a"]') == 204
    assert await served.poll("/0/first") == b'a["a"]'
    await other.send("b")
    assert await other.messages(1) == ["b"]
    await other.leave()


@pytest.mark.slow
async def test_sessions_are_not_counted_by_default(serve: Serve) -> None:
    served = await serve(Echo)
    assert served.router.settings.max_sessions is None
    assert served.router.settings.max_sessions_per_ip is None
    wire = await served.wire()
    for number in range(500):
        reply = await wire.request("POST", f"/echo/0/{number}/xhr", b"")
        assert reply.body == b"o\n"
    assert served.router.session_count == 500


@limits
async def test_slow_authorize_lets_no_more_in_than_there_is_room(
    serve: Serve, limit: str, status: int
) -> None:
    gate = asyncio.Event()
    waiting = []

    async def authorize(request: web.Request) -> bool:
        waiting.append(request)
        await gate.wait()
        return True

    served = await serve(Echo, settings={limit: 3}, authorize=authorize)
    requests = [
        asyncio.ensure_future(ask(served, method, path.replace("/1/", f"/{number}/")))
        for number, (method, path) in enumerate(REQUESTS * 3)
    ]
    while len(waiting) < len(requests):
        await asyncio.sleep(0.001)
    gate.set()
    statuses = [reply.status for reply in await asyncio.gather(*requests)]
    assert statuses.count(status) == len(requests) - 3
    assert served.router.session_count == 3


@limits
@pytest.mark.logs("ZeroDivisionError: mistake")
async def test_session_that_could_not_be_opened_does_not_count(
    serve: Serve, limit: str, status: int
) -> None:
    async def authorize(request: web.Request) -> bool:
        return "refused" not in request.query

    def connect(session: Any) -> Any:
        if session.info.query.get("broken"):
            raise ZeroDivisionError("mistake")
        return Echo(session)

    served = await serve(connect, settings={limit: 1}, authorize=authorize)
    for query, answer in (("refused=1", 403), ("broken=1", 500)):
        for method, path in REQUESTS[:5]:
            joint = "&" if "?" in path else "?"
            assert (await ask(served, method, path + joint + query)).status == answer
        async with served.session.get(served.url("/0/1/websocket?" + query), headers=UPGRADE) as x:
            assert x.status == answer
    assert await served.poll("/0/1") == b"o"


# Ways out.

# Only the count of an address can go wrong on its own: `session_count` is that of all.
ONE_EACH = {"max_sessions_per_ip": 1, **SHORT}


class Leaving(Recorder):
    """Ends as the client says."""

    async def on_message(self, message: str | bytes) -> None:
        if message == "close":
            self.close()
        elif message == "raise":
            raise ZeroDivisionError("mistake")
        elif message == "overflow":
            self.send("a message alone always fits")
            self.send("x" * 10_000)


@pytest.mark.virtual_time
@every
@pytest.mark.parametrize("way", ["leave", "abort", "close", "raise", "overflow"])
async def test_each_way_out_makes_room_for_another(
    serve: Serve, kind: Kind, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ending(Leaving):
        pass

    monkeypatch.setattr("sockjs_aio.observers.log.hooks.disabled", way == "raise")
    served = await serve(Ending, settings={**ONE_EACH, "send_queue_limit": 5000})
    for _ in range(2):
        client = await kind.open(served)
        reply = await ask(served, "POST", "/0/other/xhr")
        assert reply.status == 429
        if way == "leave":
            await client.leave()
        elif way == "abort":
            client.abort()
        else:
            await client.send(way)
            while (await client.frame())[:1] not in (b"c", b""):
                pass
            await client.leave()
        await served.until_empty()
    assert Ending.seen.count("open") == Ending.seen.count("close") == 2


@pytest.mark.virtual_time
@http
async def test_session_that_expires_makes_room_for_another(serve: Serve, kind: Kind) -> None:
    served = await serve(Echo, settings={**ONE_EACH, "response_limit": 1})
    method, url = kind(served, {})._request()  # type: ignore[attr-defined]
    for number in range(2):
        reply = await served.request(method, f"/0/{number}{url}", b"" if method == "POST" else None)
        assert reply.status == 200
        await served.until_empty()


@pytest.mark.virtual_time
@every
async def test_rejected_session_makes_room_for_another(serve: Serve, kind: Kind) -> None:
    class Refusing(Recorder):
        async def on_open(self, info: object) -> bool:
            return False

    served = await serve(Refusing, settings=ONE_EACH)
    for _ in range(2):
        client = await kind.open(served)
        assert (await client.frame())[:1] == b"c"
        await client.leave()
        await served.until_empty()


# Addresses.


async def served_behind_a_proxy(serve: Serve, limit: int) -> Served:
    app = web.Application()
    await set_up_remotes(app, XForwardedRelaxed())
    return await serve(Echo, app=app, settings={"max_sessions_per_ip": limit})


@openers
async def test_clients_behind_a_proxy_have_their_own_addresses(
    serve: Serve, method: str, path: str
) -> None:
    served = await served_behind_a_proxy(serve, 2)
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    for number in range(2):
        reply = await served.request("POST", f"/0/{number}/xhr", b"", headers=forwarded)
        assert reply.body == b"o\n"
    refused = await ask(served, method, path.replace("/1/", "/x/"), **forwarded)
    assert (refused.status, refused.header("Retry-After")) == (429, "5")
    forwarded = {"X-Forwarded-For": "192.0.2.2"}
    admitted = await ask(served, method, path.replace("/1/", "/x/"), **forwarded)
    assert admitted.status == (101 if "websocket" in path else 200)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("2001:db8:1:2::1", 429),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", 429),
        ("2001:DB8:1:2::7", 429),
        ("2001:db8:1:3::1", 200),
        ("192.0.2.1", 200),
    ],
)
async def test_ipv6_network_of_64_bits_counts_as_one_address(
    serve: Serve, address: str, status: int
) -> None:
    served = await served_behind_a_proxy(serve, 1)
    forwarded = {"X-Forwarded-For": "2001:db8:1:2::1"}
    assert (await ask(served, "POST", "/0/first/xhr", **forwarded)).status == 200
    forwarded = {"X-Forwarded-For": address}
    assert (await ask(served, "POST", "/0/other/xhr", **forwarded)).status == status


async def test_without_what_tells_the_addresses_all_have_the_proxys(serve: Serve) -> None:
    served = await serve(Echo, settings={"max_sessions_per_ip": 1})
    first = await ask(served, "POST", "/0/first/xhr", **{"X-Forwarded-For": "192.0.2.1"})
    other = await ask(served, "POST", "/0/other/xhr", **{"X-Forwarded-For": "192.0.2.2"})
    assert (first.status, other.status) == (200, 429)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),  # as a socket for both families tells it
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, is_same: bool) -> None:
    counter = AddressCounter(1)
    counter.add(one)
    assert counter.is_full(one)
    assert counter.is_full(other) is is_same
    counter.remove(one)
    assert not counter.is_full(one)
    assert counter._counts == {}, "nothing is kept of an address without sessions"


@pytest.mark.parametrize("ip", [None, "", "unknown", "@"])
def test_what_is_no_address_is_not_counted(ip: str | None) -> None:
    counter = AddressCounter(1)
    for _ in range(3):
        counter.add(ip)
        assert not counter.is_full(ip)
    for _ in range(3):
        counter.remove(ip)
