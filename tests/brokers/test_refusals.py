"""What Redis refuses: the command alone, the whole connection, for a while or for good."""

import asyncio
import functools
import socket
from collections.abc import AsyncIterator
from typing import Any

import async_timeout
import pytest
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from sockjs_aio import BrokerUnavailableError
from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.replies import REPLICA, ends_connection, reason
from tests import clients
from tests.brokers.redis_server import RedisServer, packed
from tests.brokers.scripted import ScriptedRedis
from tests.brokers.talker import Talker, tell
from tests.brokers.test_redis import until_connected
from tests.brokers.test_redis_down import HASTY, said, until
from tests.brokers.test_scripted import Ear
from tests.conftest import Serve
from tests.virtual_loop import VirtualLoop

WebSocket = clients.WebSocket

NO_USE = [
    b"READONLY You can't write against a read only replica.",
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"LOADING Redis is loading the dataset in memory",
    b"MOVED 3999 127.0.0.1:6381",
    b"MOVED nonsense",
    b"ASK 3999 127.0.0.1:6381",
    b"CLUSTERDOWN The cluster is down",
    b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    b"NOAUTH Authentication required.",
    b"WRONGPASS invalid username-password pair or user is disabled.",
    b"ERR Error running script (call to f_0): @user_script:4: -READONLY You can't write.",
]
"""What says that a server is no use at present."""

ONE_COMMAND = [
    b"NOPERM this user has no permissions to run the 'x' command",
    b"OOM command not allowed when used memory > 'maxmemory'.",
    b"MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
    b"NOREPLICAS Not enough good replicas to write.",
    b"WRONGTYPE Operation against a key holding the wrong kind of value",
    b"ERR unknown command",
    b"ERR a name with READONLY in it",
]
"""What refuses a command, and nothing else."""


@pytest.fixture
async def redis() -> AsyncIterator[ScriptedRedis]:
    server = ScriptedRedis()
    await server.start()
    yield server
    await server.stop()


async def use(broker: RedisBroker, verb: bytes) -> None:
    """Have the broker send `verb`, if it does not anyway."""
    try:
        if verb == b"PUBLISH":
            await broker.publish("news", "x")
        elif verb == b"SUBSCRIBE":
            broker.subscribe("news", Ear())
            await broker.ready("news")
        elif verb == b"SADD":
            broker.join("news", "ann")
            await broker.ready("news")
        elif verb == b"EVAL":
            await broker.members("news")
    except BrokerUnavailableError:
        pass


VERBS = pytest.mark.parametrize(
    "verb", [b"PUBLISH", b"SUBSCRIBE", b"SADD", b"EVAL", b"PING", b"DEL"], ids=bytes.decode
)


@pytest.mark.parametrize("text", NO_USE + ONE_COMMAND, ids=lambda text: text[:16].decode())
async def test_replies_are_told_apart(redis: ScriptedRedis, text: bytes) -> None:
    redis.answers[b"PUBLISH"] = b"-" + text + b"\r\n"
    expected = r": (it |a reply that cannot be read)" if text in NO_USE else " refuses: "
    with pytest.raises(BrokerUnavailableError, match=expected):
        await RedisBroker(redis.url, on_unavailable="raise").publish("news", "x")


@pytest.mark.virtual_time
@VERBS
@pytest.mark.parametrize("text", NO_USE[:1] + NO_USE[-3:], ids=lambda text: text[:16].decode())
async def test_reply_that_says_that_the_server_is_no_use_ends_the_connection(
    redis: ScriptedRedis, text: bytes, verb: bytes
) -> None:
    async with RedisBroker(redis.url, on_unavailable="raise", **HASTY) as broker:
        await until_connected(broker)
        redis.answers[verb] = b"-" + text + b"\r\n"
        await use(broker, verb)
        await until(lambda: broker.gaps == 1)
        if verb in (b"SUBSCRIBE", b"DEL"):  # without these nothing is settled
            await until(lambda: len(redis._writers) > 6)
            assert (broker.state, broker.gaps) == ("reconnecting", 1)
            with pytest.raises(BrokerUnavailableError, match="it "):
                await broker.members("news")
        del redis.answers[verb]
        await until_connected(broker)
        await until(lambda: _publishes(broker))


async def _publishes(broker: RedisBroker) -> bool:
    try:
        await broker.publish("news", "x")
    except BrokerUnavailableError:
        return False
    return True


@pytest.mark.virtual_time
@VERBS
async def test_reply_that_refuses_a_command_leaves_the_connection(
    redis: ScriptedRedis, verb: bytes
) -> None:
    redis.answers[verb] = b"-" + ONE_COMMAND[0] + b"\r\n"
    async with RedisBroker(redis.url, **HASTY) as broker:
        await use(broker, verb)
        looks = redis.count(b"DEL")
        await until(lambda: redis.count(b"DEL") > looks + 2)
        expected = ("degraded", 1) if verb == b"SUBSCRIBE" else ("connected", 0)
        assert (broker.state, broker.gaps) == expected
        del redis.answers[verb]
        await until_connected(broker)


def test_reasons_are_short_and_end_without_a_stop() -> None:
    assert reason(ReadOnlyError("You can't write.")) == f"{REPLICA} (You can't write)"
    busy = ResponseError("Command # 1 (GET x) of pipeline caused error: BUSY Redis is busy.")
    assert ends_connection(busy)
    assert reason(busy) == "it is busy with a script (BUSY Redis is busy)"
    text = 'Command # 2 (SET key value) of pipeline caused error: ("You can\'t write.",)'
    assert reason(ReadOnlyError(text)) == f"{REPLICA} (You can't write)"
    assert not ends_connection(ResponseError("ERR a channel named BUSY"))
    for error, text in [
        (RedisError("Connection closed by server."), "Connection closed by server"),
        (OSError(), "OSError"),
        (OSError("failed ('127.0.0.1', 6379)."), "failed ('127.0.0.1', 6379)"),
        (asyncio.TimeoutError(), "no answer in time"),
    ]:
        assert reason(error) == text


# For a while.


def keep_busy(server: RedisServer) -> socket.socket:
    """Run a script that does not end, of a program that knows nothing of brokers."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(packed("EVAL", "while true do end", "0"))
    return connection


@pytest.mark.redis
async def test_channels_that_were_refused_by_a_busy_server_are_listened_to_afterwards(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.cli("CONFIG", "SET", "busy-reply-threshold", "10")
    broker = RedisBroker(own_redis.url, on_unavailable="raise", timeout=5, max_retry_delay=0.1)
    served = await serve(Talker, broker=broker)
    old, new = await WebSocket.open(served), await WebSocket.open(served)
    await tell(old, "sub old ann")
    with keep_busy(own_redis):
        await until(lambda: own_redis.command("PING").startswith(b"-BUSY"))
        await tell(new, "sub new bob")
        await until(lambda: broker.state == "reconnecting")
        with pytest.raises(BrokerUnavailableError, match="it is busy with a script"):
            await served.router.publish("old", "x")
        assert await old.messages(1) == ["x"]
        assert broker.gaps == 1
        assert own_redis.command("SCRIPT", "KILL") == b"+OK\r\n"
    await until_connected(broker)
    own_redis.publish("sockjs:old", b"1")
    own_redis.publish("sockjs:new", b"2")
    assert await old.messages(1) == ["1"]
    assert await new.messages(1) == ["2"]
    for channel, name in (("old", "ann"), ("new", "bob")):
        await until(functools.partial(_are, served.router, channel, {name}))
    assert broker.gaps == 1
    assert len(said(caplog)) == 2


async def _are(router: Any, channel: str, expected: set[str]) -> bool:
    return bool(await router.members(channel) == expected)


@pytest.mark.redis
@pytest.mark.parametrize("count", [1, 3, 1200])
async def test_channels_are_listened_to_once_their_rights_are_put_right(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    own_redis.cli("ACL", "SETUSER", "default", "resetchannels", "&sockjs:public")
    async with RedisBroker(own_redis.url, **HASTY) as broker:
        ear = Ear()
        names = [f"secret {number}" for number in range(count)]
        for name in ("public", *names):
            broker.subscribe(name, ear)
        async with async_timeout.timeout(20):
            await asyncio.gather(*map(broker.ready, ("public", *names)))
        await until(lambda: broker.state == "degraded")
        assert broker.gaps == 1
        own_redis.publish("sockjs:public", b"1")
        await ear.until("1")
        await asyncio.sleep(0.5)
        assert (broker.state, broker.gaps) == ("degraded", 1)
        own_redis.cli("ACL", "SETUSER", "default", "allchannels")
        await until_connected(broker)
        for name in names:
            own_redis.publish(f"sockjs:{name}", name.encode())
        await ear.until("1", *names)
        assert broker.gaps == 1
    assert [text.split(";")[0].split(":")[0] for text in said(caplog)] == [
        "Redis refuses channel sockjs",
        "Redis accepts all channels again",
    ]


@pytest.mark.redis
async def test_refused_channel_that_nobody_wants_any_more_is_forgotten(
    own_redis: RedisServer,
) -> None:
    own_redis.cli("ACL", "SETUSER", "default", "resetchannels")
    async with RedisBroker(own_redis.url, **HASTY) as broker:
        ear = Ear()
        broker.subscribe("secret", ear)
        await until(lambda: broker.state == "degraded")
        broker.unsubscribe("secret", ear)
        assert broker.state == "connected"
        own_redis.cli("CONFIG", "RESETSTAT")
        await asyncio.sleep(0.5)
        assert "cmdstat_subscribe" not in own_redis.cli("INFO", "commandstats")


@pytest.mark.redis
@pytest.mark.parametrize("verb", ["sadd", "srem"])
async def test_member_that_was_refused_is_told_later(own_redis: RedisServer, verb: str) -> None:
    async with RedisBroker(own_redis.url, member_expiry=0.6, **HASTY) as broker:
        broker.join("news", "ann")
        broker.join("news", "bob")
        await broker.ready("news")
        own_redis.cli("ACL", "SETUSER", "default", f"-{verb}")
        if verb == "sadd":
            broker.join("news", "cid")
        else:
            broker.leave("news", "bob")
        await broker.ready("news")
        own_redis.cli("ACL", "SETUSER", "default", f"+{verb}")
        expected = {"ann", "bob", "cid"} if verb == "sadd" else {"ann"}
        await until(lambda: _are(RedisBroker(own_redis.url), "news", expected))
        assert (broker.state, broker.gaps) == ("connected", 0)


@pytest.mark.redis
@pytest.mark.parametrize("is_away", [False, True])
async def test_little_is_remembered_of_channels_that_nobody_is_in_any_more(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    monkeypatch.setattr("sockjs_aio.brokers.redis.presence.MAX_LEFT", 5)
    async with RedisBroker(own_redis.url, member_expiry=0.3, **HASTY) as broker:
        await until_connected(broker)
        if is_away:
            own_redis.kill()
            await until(lambda: broker.state == "reconnecting")
        else:
            own_redis.cli("ACL", "SETUSER", "default", "-sadd", "-srem", "-pexpire")
        for number in range(50):
            broker.join(f"room{number}", "ann")
            broker.leave(f"room{number}", "ann")
        assert broker._work is not None
        presence = broker._work.presence
        await until(lambda: 0 < len(presence._stale) <= 5)


# The login.


@pytest.mark.redis
async def test_missing_password_never_looks_like_a_connection(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.cli("CONFIG", "SET", "requirepass", "right")
    broker = RedisBroker(own_redis.url, on_unavailable="raise", **HASTY)
    states = set()
    served = await serve(Talker, broker=broker)
    for _ in range(300):
        await asyncio.sleep(0.002)
        states.add(broker.state)
    assert states <= {"connecting", "reconnecting"}
    for publisher in (served.router, RedisBroker(own_redis.url, on_unavailable="raise")):
        with pytest.raises(BrokerUnavailableError, match="it refuses the login"):
            await publisher.publish("news", "x")
    assert broker.gaps == 1
    assert len(said(caplog)) == 1
    own_redis.cli("-a", "right", "CONFIG", "SET", "requirepass", "")
    await until_connected(broker)


@pytest.mark.redis
@pytest.mark.parametrize("login", [":wrong@", "nobody:wrong@", ""])
async def test_later_reason_of_a_gap_is_logged_once(
    serve: Serve, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, login: str
) -> None:
    own_redis.kill()
    url = own_redis.url.replace("//", f"//{login}")
    broker = RedisBroker(url, on_unavailable="raise", **HASTY)
    served = await serve(Talker, broker=broker)
    await until(lambda: broker.state == "reconnecting")
    own_redis.start("--requirepass", "right")
    await until(lambda: "refuses the login" in caplog.text)
    with pytest.raises(BrokerUnavailableError, match="it refuses the login"):
        await served.router.publish("news", "x")
    own_redis.kill()
    own_redis.start("--requirepass", "right")
    await asyncio.sleep(0.5)
    assert len([text for text in said(caplog) if "refuses the login" in text]) == 1
    assert len([text for text in said(caplog) if "from now on" in text]) == 1
    assert ".;" not in caplog.text and "wrong" not in caplog.text.replace("wrong number", "")
    assert broker.gaps == 1


# Silence.


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.77])
def test_call_waits_for_a_silent_redis_for_timeout_at_most(moment: float) -> None:
    """On a loop whose clock only jumps, so that this is exact."""

    async def measure() -> float:
        clock = asyncio.get_running_loop().time
        redis = ScriptedRedis()
        await redis.start()
        async with RedisBroker(redis.url, timeout=2, on_unavailable="raise") as broker:
            while broker.state != "connected":
                await asyncio.sleep(0.001)
            await asyncio.sleep(moment)
            await broker.publish("news", "heard")
            for verb in (b"PING", b"DEL", b"PUBLISH"):
                redis.hold(verb)
            begun = clock()
            with pytest.raises(BrokerUnavailableError, match="no answer in time"):
                await broker.publish("news", "x")
            waited = clock() - begun
        await redis.stop()
        return waited

    loop = VirtualLoop()
    try:
        waited = loop.run_until_complete(measure())
    finally:
        loop.close()
    assert 1 < waited <= 2
