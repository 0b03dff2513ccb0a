"""Brokers that find their Redis by asking Sentinels."""

import asyncio
import contextlib
import gc
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from sockjs_aio import BrokerUnavailableError, SettingsError
from sockjs_aio.brokers.redis import RedisBroker, RedisPublisher
from sockjs_aio.brokers.redis.connection import named_primary
from sockjs_aio.brokers.redis.sentinel import Sentinels, split_url
from sockjs_aio.brokers.redis.url import make_pool
from tests import clients
from tests.brokers.redis_server import RedisServer
from tests.brokers.sentinel_server import SERVICE, SentinelServer
from tests.brokers.talker import tell
from tests.brokers.test_gaps import Reloading
from tests.brokers.test_redis import until_connected
from tests.brokers.test_redis_down import HASTY, Traffic
from tests.brokers.test_redis_url import SECRETS
from tests.certificate import make_certificate
from tests.conftest import Serve
from tests.ports import free_port

pytestmark = pytest.mark.redis

PATIENT: Any = {"timeout": 10, "on_unavailable": "raise"}


async def test_traffic_goes_on_at_the_new_primary_when_the_old_one_was_killed(
    serve: Serve, own_redis: RedisServer, other_redis: RedisServer, sentinel: SentinelServer
) -> None:
    sentinel.watch(own_redis.port)
    nobody = f"127.0.0.1:{free_port()},"
    url = sentinel.url.replace("//", f"//{nobody}")
    traffic = Traffic(url)
    await traffic.start(serve)
    listener = await clients.Xhr.open(await serve(Reloading, broker=RedisBroker(url, **HASTY)))
    await tell(listener, "sub news")
    await traffic.flows()
    await asyncio.to_thread(sentinel.until_it_knows_a_replica)
    publisher = RedisPublisher(url)
    await asyncio.to_thread(publisher.publish, "news", "from a thread")
    assert await listener.messages(1) == ["from a thread"]
    own_redis.kill()
    assert await listener.messages(1) == ["gap news"]
    await until_connected(*traffic.brokers)
    await traffic.flows()
    await traffic.stop()
    traffic.check()
    assert b"role:master" in other_redis.command("INFO", "replication")
    other_redis.publish("sockjs:news", b"at the new one")
    assert await listener.messages(1) == ["at the new one"]
    await asyncio.to_thread(publisher.publish, "news", "from a thread")
    assert await listener.messages(1) == ["from a thread"]
    publisher.close()


async def test_primary_that_was_replaced_is_left_although_it_still_works(
    serve: Serve, own_redis: RedisServer, other_redis: RedisServer, sentinel: SentinelServer
) -> None:
    sentinel.watch(own_redis.port)
    broker = RedisBroker(sentinel.url, **HASTY)
    client = await clients.Xhr.open(await serve(Reloading, broker=broker))
    await tell(client, "sub news")
    await asyncio.to_thread(sentinel.fail_over)
    assert await client.messages(1) == ["gap news"]
    assert b"role:master" in own_redis.command("INFO", "replication"), "it does not know yet"
    other_redis.publish("sockjs:news", b"at the new one")
    assert await client.messages(1) == ["at the new one"]


async def test_sentinel_is_asked_with_its_password_and_over_tls(
    own_redis: RedisServer, sentinel: SentinelServer, tmp_path: Path
) -> None:
    certificate, port, tls_port = make_certificate(tmp_path), free_port(), free_port()
    tls = {f"tls-{x}-file": certificate for x in ("cert", "key", "ca-cert")}
    own_redis.kill()
    options = [f"--{name}={value}" for name, value in tls.items()]
    options = [part for option in options for part in option.split("=")]
    own_redis.start(
        *options, "--tls-port", str(port), "--tls-auth-clients", "no", "--requirepass", "ge/heim"
    )
    sentinel.watch(
        port,
        *(f"{name} {value}" for name, value in tls.items()),
        f"tls-port {tls_port}",
        "tls-auth-clients no",
        "tls-replication yes",
        "requirepass in/nen",
        f"sentinel auth-pass {SERVICE} ge/heim",
    )
    url = (
        f"rediss+sentinel://:{quote('ge/heim', safe='')}@localhost:{tls_port}/{SERVICE}"
        f"?db=1&sentinel_password={quote('in/nen', safe='')}&ssl_ca_certs={certificate}"
    )
    await RedisBroker(url, **PATIENT).publish("news", "x")
    await asyncio.to_thread(RedisPublisher(url).publish, "news", "x")
    with pytest.raises(BrokerUnavailableError, match="No master found") as error:
        await asyncio.to_thread(
            RedisPublisher(url.replace("in%2Fnen", "wrong")).publish, "news", ""
        )
    assert "wrong" not in str(error.value)
    with pytest.raises(BrokerUnavailableError, match="it refuses the login") as error:
        await RedisBroker(url.replace("in%2Fnen", "wrong"), **PATIENT).publish("news", "x")
    assert "check that they run, and their hosts, ports and password" in str(error.value)
    assert "wrong" not in str(error.value)


async def sentence(url: str) -> str:
    with pytest.raises(BrokerUnavailableError) as error:
        await RedisBroker(url, **PATIENT).publish("news", "x")
    return str(error.value)


async def test_errors_say_what_to_do(
    own_redis: RedisServer, other_redis: RedisServer, sentinel: SentinelServer
) -> None:
    other = sentinel.url.replace(SERVICE, "other")
    said = await sentence(sentinel.url)
    assert f"Redis at {SERVICE} (Sentinels: 127.0.0.1:{sentinel.port})" in said
    assert "no Sentinel answers" in said and "111" in said
    sentinel.watch(other_redis.port)  # a replica, which it takes for the primary at first
    said = await sentence(other)
    assert f"do not know the service 'other', only {SERVICE}: correct its name in the URL" in said
    said = await sentence(sentinel.url)
    assert "it is a replica; unless a failover is under way, use a URL that leads to the" in said
    said = await sentence(f"redis+sentinel://127.0.0.1:{own_redis.port}/{SERVICE}")
    assert "it is not a Sentinel" in said
    said = await sentence(f"redis://127.0.0.1:{sentinel.port}")
    assert "it is a Sentinel: write redis+sentinel://host:port/service" in said
    own_redis.kill()


async def test_sentinel_is_asked_by_many_at_the_same_time(
    own_redis: RedisServer, sentinel: SentinelServer
) -> None:
    sentinel.watch(own_redis.port)
    broker = RedisBroker(sentinel.url, **PATIENT)
    await asyncio.gather(*(broker.publish("news", "x") for _ in range(150)))


async def test_primary_that_is_down_is_waited_for(
    own_redis: RedisServer, sentinel: SentinelServer
) -> None:
    sentinel.watch(own_redis.port)
    await RedisBroker(sentinel.url, **PATIENT).publish("news", "x")
    own_redis.kill()
    while "know no primary that works at the moment" not in await sentence(sentinel.url):
        await asyncio.sleep(0.05)


async def test_redis_cluster_is_refused(own_redis: RedisServer) -> None:
    own_redis.kill()
    own_redis.start("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    for _ in range(2):
        assert "it belongs to a Redis Cluster, which does not work" in await sentence(own_redis.url)
        own_redis.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383")  # then it answers all commands


UNFIT = [
    ("redis+sentinel://host", "write the name of the service"),
    ("redis+sentinel://host/", "write the name of the service"),
    ("redis+sentinel://host/a b", "write the name of the service"),
    ("redis+sentinel:///name", "write the hosts of the Sentinels"),
    ("redis+sentinel://one,,two/name", "write the hosts of the Sentinels"),
    ("redis+sentinel://one:x/name", "write the hosts of the Sentinels"),
    ("redis+sentinel://one:70000/name", "port must be a number"),
    ("redis+sentinel://one,two:70000/name", "Port out of range"),
    ("redis+sentinel://one/name?sentinel_db=1", "sentinel_username and sentinel_password"),
    ("redis+sentinel://one/name?db=x", "Invalid value for"),
    ("redis+sentinel://one/name?ssl_cert_reqs=none", "ssl_cert_reqs needs rediss://"),
    ("unix+sentinel:///path", "write it like"),
]


@pytest.mark.parametrize(("url", "text"), UNFIT, ids=[url for url, _ in UNFIT])
def test_url_that_does_not_fit_is_refused(url: str, text: str) -> None:
    with pytest.raises(SettingsError, match="the Redis URL is not valid") as error:
        RedisBroker(url)
    assert text in str(error.value)


@pytest.mark.parametrize("secret", SECRETS)
def test_password_that_is_not_encoded_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(SettingsError) as error:
        RedisBroker(f"redis+sentinel://anna:{secret}@one,two:5/name")
    assert len(secret) < 3 or secret not in str(error.value)
    try:
        RedisBroker(f"redis+sentinel://one/name?sentinel_password={secret}")
    except SettingsError as other:  # some are what was meant
        assert len(secret) < 3 or secret not in str(other)


def test_url_is_split() -> None:
    url = split_url("RedisS+Sentinel://u:p%2F@one,[::1]:5/name.x?db=2&sentinel_username=a&ssl_x=y")
    assert url == (
        "rediss://u:p%2F@one:26379/?db=2&ssl_x=y",
        ["rediss://a:@one:26379/?ssl_x=y", "rediss://a:@[::1]:5/?ssl_x=y"],
        "one:26379, [::1]:5",
        "name.x",
    )


async def test_threads_that_connect_together_forget_no_sentinel(
    own_redis: RedisServer, sentinel: SentinelServer
) -> None:
    sentinel.watch(own_redis.port)
    url = sentinel.url.replace("//", f"//127.0.0.1:{free_port()},")
    with RedisPublisher(url) as publisher:
        each = (asyncio.to_thread(publisher.publish, "news", "x") for _ in range(16))
        await asyncio.gather(*each)
        known = publisher._pool.sentinel_manager.sentinels  # type: ignore[attr-defined]
        assert len(known) == len(set(map(id, known))) == 2


async def test_connection_that_is_made_while_the_primary_is_replaced_is_made_again(
    own_redis: RedisServer, other_redis: RedisServer, sentinel: SentinelServer
) -> None:
    """When those that were there were closed, this one was not there yet."""
    sentinel.watch(own_redis.port)
    pool = make_pool(ConnectionPool, sentinel.url, socket_connect_timeout=10)
    find = pool.connection_kwargs["find"]
    await asyncio.to_thread(sentinel.until_it_knows_a_replica)
    assert await find() == ("127.0.0.1", own_redis.port)
    connection: Any = pool.connection_class(**pool.connection_kwargs)
    own_redis.signal(signal.SIGSTOP)  # it accepts, and says nothing
    connecting = asyncio.ensure_future(connection.connect())
    while connection._writer is None:
        await asyncio.sleep(0.01)
    named = None
    while named != ("127.0.0.1", other_redis.port):
        with contextlib.suppress(RedisError):  # until the failover, there is none
            named = await find()
    own_redis.signal(signal.SIGCONT)
    await connecting
    assert (connection.host, connection.port) == ("127.0.0.1", other_redis.port)
    await connection.disconnect()


async def test_sentinel_for_which_there_was_no_time_is_asked_last(
    own_redis: RedisServer, sentinel: SentinelServer
) -> None:
    sentinel.watch(own_redis.port)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"//127.0.0.1:{silent.getsockname()[1]},"
        pool = make_pool(
            ConnectionPool, sentinel.url.replace("//", nobody), socket_connect_timeout=30
        )
        assert await named_primary(pool, 0.2) is None
        assert await named_primary(pool, 9) == ("127.0.0.1", own_redis.port)


async def test_a_question_that_is_cancelled_at_any_moment_leaves_no_connection_open(
    own_redis: RedisServer, sentinel: SentinelServer
) -> None:
    """Python warns of each that is left; here, a warning is an error."""
    sentinel.watch(own_redis.port)
    find = Sentinels(split_url(sentinel.url), 5)
    assert await find() == ("127.0.0.1", own_redis.port)
    has_answered = 0
    turns = 0
    while has_answered < 10:
        asking = asyncio.ensure_future(find())
        for _ in range(turns):
            await asyncio.sleep(0)
        has_answered += asking.done()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        turns += 1
    gc.collect()
