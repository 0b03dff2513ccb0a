"""RedisBroker on a Redis that works: what it costs, what others can send, what it refuses."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import async_timeout
import pytest

from sockjs_aio import BrokerUnavailableError, ConnectionInfo, SettingsError
from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.payload import make_label, pack
from tests import clients
from tests.brokers.conftest import MakeBroker
from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer
from tests.brokers.talker import Talker, tell
from tests.brokers.test_loops import Ear
from tests.conftest import Recorder, Serve

pytestmark = pytest.mark.redis
WebSocket = clients.WebSocket
ROOT = Path(__file__).parents[2]


def subscriptions(redis_server: RedisServer, name: str) -> int:
    return int(redis_server.cli("PUBSUB", "NUMSUB", name).split("\n")[1])


async def until_connected(*brokers: Any) -> None:
    async with async_timeout.timeout(10):
        for broker in brokers:
            while broker.state != "connected":
                await asyncio.sleep(0.001)


async def test_link_over_a_unix_socket_lasts(serve: Serve, redis_server: RedisServer) -> None:
    broker = RedisBroker(redis_server.unix_url, timeout=0.4)
    talker = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(talker, "sub news")
    await until_connected(broker)
    await asyncio.sleep(1)  # it was looked at several times
    assert (broker.state, broker.gaps) == ("connected", 0)


# What it costs.


async def test_one_subscription_for_a_process_and_a_channel(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    before = redis_server.cli("CLIENT", "LIST").count("\n")
    nodes = [await serve(Talker, broker=redis_broker()) for _ in range(2)]
    talkers = [await WebSocket.open(node) for node in nodes * 5]
    for talker in talkers:
        await tell(talker, "sub news", "sub more")
    assert subscriptions(redis_server, f"{prefix}news") == 2
    assert redis_server.cli("CLIENT", "LIST").count("\n") - before == 4
    for talker in talkers[2:]:
        await tell(talker, "unsub news")
    assert subscriptions(redis_server, f"{prefix}news") == 2
    for talker in talkers[:2]:
        await tell(talker, "unsub news", "sub other")  # confirmed after what was asked before
    assert subscriptions(redis_server, f"{prefix}news") == 0
    assert subscriptions(redis_server, f"{prefix}more") == 2
    for node in nodes:
        await node.runner.cleanup()
    async with async_timeout.timeout(5):
        while redis_server.cli("CLIENT", "LIST").count("\n") > before:
            await asyncio.sleep(0.01)


async def test_subscribers_that_come_and_go_quickly_end_up_right(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    class Fickle(Recorder):
        async def on_message(self, message: str | bytes) -> None:
            waiting = []
            for _ in range(int(message)):
                waiting.append(asyncio.ensure_future(self.subscribe("news")))
                await asyncio.sleep(0)
                self.unsubscribe("news")
                waiting.append(asyncio.ensure_future(self.subscribe("news")))
                await asyncio.sleep(0)
            async with async_timeout.timeout(5):
                await asyncio.gather(*waiting)
            await super().on_message(message)

    served = await serve(Fickle, broker=redis_broker())
    client = await WebSocket.open(served)
    for count in ("1", "2", "50"):
        await client.send(count)
        await Fickle.until(count)
        assert subscriptions(redis_server, f"{prefix}news") == 1
        redis_server.publish(f"{prefix}news", b"hello")
        assert await client.messages(1) == ["hello"]


async def test_flood_from_redis_leaves_the_loop_its_turns(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    # more than a session's queue holds, and than Redis keeps: what is read has to leave meanwhile
    served = await serve(Talker, settings={"send_queue_limit": 1 << 20}, broker=redis_broker())
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    texts = [b"%d " % number + b"x" * 1000 for number in range(6000)]
    flood = asyncio.ensure_future(asyncio.to_thread(redis_server.publish, f"{prefix}news", *texts))
    async with async_timeout.timeout(20):
        assert await client.messages(len(texts)) == [text.decode() for text in texts]
    await flood


async def test_flood_of_small_messages_leaves_in_many_frames(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    served = await serve(Talker, broker=redis_broker())
    audience = [await WebSocket.open(served) for _ in range(50)]
    for client in audience:
        await tell(client, "sub news")
    redis_server.publish(f"{prefix}news", *[b"x"] * 5000)
    frames = messages = 0
    async with async_timeout.timeout(50):
        while messages < 5000:
            frames += 1
            messages += (await audience[0].frame()).count(b'"x"')
    # 250,000 deliveries; what is read from Redis at once would be a few frames
    assert frames > 15


# Others.


@pytest.mark.parametrize("text", ["hello", "h\u00e9 \u2603", '{"a": [1]}', " ", "a\nb\r\nc"])
async def test_redis_cli_publishes(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str, text: str
) -> None:
    client = await WebSocket.open(await serve(Talker, broker=redis_broker()))
    await tell(client, "sub news")
    assert await asyncio.to_thread(redis_server.cli, "PUBLISH", f"{prefix}news", text) == "1"
    assert await client.messages(1) == [text]


async def test_any_process_publishes_and_asks_who_is_there(
    serve: Serve, redis_server: RedisServer
) -> None:
    client = await WebSocket.open(await serve(Talker, broker=RedisBroker(redis_server.url)))
    await tell(client, "sub orders ann")
    worker = (
        "import asyncio, sys\n"
        "from sockjs_aio.brokers.redis import RedisBroker\n"
        "async def main():\n"
        "    asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy\n"
        "    await RedisBroker(sys.argv[1]).publish('orders', 'one')\n"
        "    async with RedisBroker(sys.argv[1]) as broker:\n"
        "        for number in range(100):\n"
        "            await broker.publish('orders', str(number))\n"
        "    print(await RedisBroker(sys.argv[1]).members('orders'))\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-X", "dev", "-c", worker, redis_server.url),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert await process.communicate() == (b"{'ann'}\n", b"")
    assert await client.messages(101) == ["one", *map(str, range(100))]


GARBAGE = [
    *(b"\xff\xfe", b"\xc0\x80", b"\0", b"\0x", b"\xf8" * 1000, b"\0a:1\0x"),
    *(b"x" * 3000, b"\0\0" + b"x" * 3000, make_label("a" * 16, 1) + b"\xff"),
]


@pytest.mark.parametrize("payload", GARBAGE, ids=lambda payload: repr(payload[:12]))
async def test_garbage_is_dropped_counted_and_logged_once(
    serve: Serve,
    redis_broker: MakeBroker,
    redis_server: RedisServer,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
    payload: bytes,
) -> None:
    broker = redis_broker(max_message_size=2000)
    client = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(client, "sub news")
    redis_server.publish(f"{prefix}news", payload, payload, b"next")
    assert await client.messages(1) == ["next"]
    assert broker.refused == 2  # type: ignore[attr-defined]
    (record,) = [x for x in caplog.records if x.name == "sockjs_aio.broker" and x.levelno >= 30]
    assert "channel 'news': dropped a message from Redis" in record.message
    assert (broker.state, broker.gaps) == ("connected", 0)


async def test_huge_messages_are_dropped(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    client = await WebSocket.open(await serve(Talker, broker=redis_broker()))
    await tell(client, "sub news")
    redis_server.publish(f"{prefix}news", b"x" * (20 << 20), b"x" * (1 << 20), b"next")
    assert [len(text) for text in await client.messages(2)] == [1 << 20, 4]


async def test_what_comes_late_or_from_itself_is_passed_over(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    broker: Any = redis_broker()
    client = await WebSocket.open(await serve(Talker, broker=broker))
    await tell(client, "sub news")
    old, new, own = (
        make_label("a" * 16, 1),
        make_label("a" * 16, 2),
        make_label(broker._work.node, 1),
    )
    payloads = [pack("1", old), pack("2", new), pack("late", old), pack("own", own), pack("3", new)]
    redis_server.publish(f"{prefix}news", *payloads)
    assert await client.messages(3) == ["1", "2", "3"]
    assert broker.refused == 0


async def test_other_keys_and_channels_are_left_alone(
    serve: Serve, redis_broker: MakeBroker, redis_server: RedisServer, prefix: str
) -> None:
    # somebody else's data under the names of ours
    redis_server.command("SET", f"{prefix}nodes:news", "a string")
    served = await serve(Talker, broker=redis_broker(on_unavailable="raise"))
    client = await WebSocket.open(served)
    await tell(client, "sub news ann", "sub other bob")
    with pytest.raises(BrokerUnavailableError, match="refuses"):
        await served.router.members("news")
    assert await served.router.members("other") == {"bob"}
    await served.router.publish("news", "still")
    assert await client.messages(1) == ["still"]


# Refusals.


async def test_what_redis_refuses_is_said(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    acl = ("on", ">secret", "~sockjs:*", "&sockjs:*", "+subscribe", "+unsubscribe", "+ping")
    own_redis.cli("ACL", "SETUSER", "reader", *acl)
    url = own_redis.url.replace("//", "//reader:secret@")
    broker = RedisBroker(url, member_expiry=0.3, on_unavailable="raise")
    served = await serve(Talker, broker=broker)
    client = await WebSocket.open(served)
    await tell(client, "sub news ann")
    await client.send("pub news 1")
    assert await client.messages(2) == ["1", "unavailable"]
    with pytest.raises(BrokerUnavailableError, match=r"Redis refuses: .*permissions.*publish"):
        await served.router.publish("news", "2")
    with pytest.raises(BrokerUnavailableError, match="eval"):
        await served.router.members("news")
    assert await client.messages(1) == ["2"]
    async with async_timeout.timeout(5):
        while "other processes do not know its members" not in caplog.text:
            await asyncio.sleep(0.01)
    own_redis.publish("sockjs:news", b"3")
    assert await client.messages(1) == ["3"]
    assert (broker.state, broker.gaps) == ("connected", 0)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["reader:wrong@", ":wrong@"])
async def test_wrong_password_is_said_without_it(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    own_redis.cli("CONFIG", "SET", "requirepass", "right")
    redis = own_redis.url.replace("//", f"//{url}")
    broker = RedisBroker(redis, on_unavailable="raise")
    served = await serve(Talker, broker=broker)
    with pytest.raises(BrokerUnavailableError, match=r"(?i)password") as error:
        await served.router.publish("news", "x")
    with pytest.raises(BrokerUnavailableError, match=r"(?i)password"):
        await RedisBroker(redis, on_unavailable="raise").publish("news", "x")
    assert "wrong" not in str(error.value) + caplog.text.replace("wrong number", "")
    assert broker.state == "reconnecting"
    client = await WebSocket.open(served)
    await tell(client, "sub news")
    await client.send("pub news x")
    assert await client.messages(2) == ["x", "unavailable"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefix": "sn\u00f6:"}, "prefix"),
        ({"prefix": 7}, "prefix"),
        ({"on_unavailable": "ignore"}, "on_unavailable"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "4"}, "timeout"),
        ({"max_retry_delay": -1}, "max_retry_delay"),
        ({"member_expiry": float("inf")}, "member_expiry"),
        ({"publish_queue_limit": 1.5}, "publish_queue_limit"),
        ({"max_message_size": 0}, "max_message_size"),
        ({"max_channels": True}, "max_channels"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        RedisBroker("redis://127.0.0.1", **options)


@pytest.mark.programs
def test_package_works_without_redis_py() -> None:
    script = (
        "import sys\n"
        "sys.modules['redis'] = None\n"
        "import sockjs_aio\n"
        "sockjs_aio.SockJSRouter(sockjs_aio.SockJSConnection, '/x')\n"
        "try:\n"
        "    import sockjs_aio.brokers.redis\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "RedisBroker needs redis: pip install 'sockjs-aio[redis]'\n"


# Its state.


async def test_state_is_seen(serve: Serve, redis_broker: MakeBroker) -> None:
    broker = redis_broker()
    assert broker.state == "stopped"
    served = await serve(Talker, broker=broker)
    await until_connected(broker)
    plain = await serve(Talker)
    for router, expected in ((served.router, {"broker": "connected"}), (plain.router, {})):
        response = await router.health(None)  # type: ignore[arg-type]
        report = json.loads(response.body)  # type: ignore[attr-defined]
        assert report == {"status": "ok", "sessions": 0, "process": os.getpid(), **expected}
    await served.runner.cleanup()
    assert broker.state == "stopped"


async def test_broker_can_be_started_again(
    serve: Serve, redis_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = redis_broker()
    for _ in range(3):
        served = await serve(Talker, broker=broker)
        client = await WebSocket.open(served)
        await tell(client, "sub news ann", "sub more")
        await redis_broker().publish("news", "hello")
        assert await client.messages(1) == ["hello"]
        await served.runner.cleanup()
        assert await redis_broker().members("news") == set()
        client.abort()
    assert not [
        x for x in caplog.records if x.name == "sockjs_aio.broker" and x.levelno > logging.INFO
    ]


async def test_nothing_comes_twice_to_a_broker_that_starts_again_while_it_ends(
    own_redis: RedisServer, proxy: Proxy
) -> None:
    broker, ear = RedisBroker(proxy.url), Ear()
    async with RedisBroker(own_redis.url) as other:
        broker.subscribe("news", ear)
        broker.start("first")
        await broker.ready("news")
        proxy.delay = 0.2  # so that the first link ends after the second one has begun
        publishing = asyncio.ensure_future(broker.publish("news", "own"))
        await asyncio.sleep(0)
        ending = asyncio.ensure_future(broker.stop("first"))
        await asyncio.sleep(0)
        broker.start("second")
        proxy.delay = 0
        await broker.ready("news")
        await other.publish("news", "other")
        await asyncio.gather(publishing, ending)
        await other.publish("news", "end")
        while "end" not in ear.texts:
            await asyncio.sleep(0.01)
        assert ear.texts == ["own", "other", "end"]
        await broker.stop("second")


async def test_routes_without_attach_start_the_broker_when_it_is_needed(
    aiohttp_client: Any, redis_broker: MakeBroker
) -> None:
    from aiohttp import web

    from sockjs_aio import SockJSRouter

    class Subscriber(Recorder):
        async def on_open(self, info: ConnectionInfo) -> None:
            await self.subscribe("news")
            await super().on_open(info)

    broker = redis_broker()
    router = SockJSRouter(Subscriber, "/echo", broker=broker)
    app = web.Application()
    app.add_routes(router.routes)
    client = await aiohttp_client(app)
    async with client.ws_connect("/echo/websocket") as socket:
        await Subscriber.until("open")
        await redis_broker().publish("news", "hello")
        assert await socket.receive_str() == "hello"
    await router.shutdown()
    assert broker.state == "stopped"
