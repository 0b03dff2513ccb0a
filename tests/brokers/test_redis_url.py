"""URLs of Redis that cannot be used are refused at once, and no error has a password."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest

from sockjs_aio import BrokerUnavailableError, Nodes, SettingsError
from sockjs_aio.brokers.redis import RedisBroker
from sockjs_aio.brokers.redis.publisher import RedisPublisher
from sockjs_aio.brokers.redis.url import OPTIONS
from tests.brokers.redis_server import RedisServer
from tests.cases import case
from tests.certificate import make_certificate
from tests.ports import free_port

Make: TypeAlias = Callable[[Any], object]


def make_nodes(url: Any) -> Nodes:
    return Nodes(url, url="http://10.0.0.5", secret="x" * 16)


MAKERS = pytest.mark.parametrize("make", [RedisBroker, make_nodes], ids=["broker", "nodes"])

UNFIT = [
    ("127.0.0.1:6379", "write it like"),
    ("redis:/127.0.0.1", "write it like"),
    ("http://127.0.0.1", "write it like"),
    ("redis+tls://127.0.0.1", "write it like"),
    ("", "write it like"),
    (None, "must be a str, not NoneType"),
    (b"redis://127.0.0.1", "must be a str, not bytes"),
    ("redis://x:port", "port must be a number"),
    ("redis://x:70000", "port must be a number"),
    ("redis://x/one", "only a database number"),
    ("redis://x/1/2", "only a database number"),
    ("redis://x?db=one", "Invalid value for"),
    ("redis://x?protocol=3", "cannot set protocol"),
    ("redis://x?socket_timeout=1", "cannot set socket_timeout"),
    ("redis://x?decode_responses=true", "cannot set decode_responses"),
    ("redis://x?max_connections=2", "cannot set max_connections"),
    ("redis://x?encoding=klingon", "cannot set encoding"),
    ("redis://x?retry=3", "cannot set retry"),
    ("redis://x?foo=bar", "cannot set foo; it may set client_name"),
    ("redis://x?db", "percent-encoded"),
    ("redis://x?ssl_cert_reqs=none", "ssl_cert_reqs needs rediss://"),
    ("rediss://x?ssl_cert_reqs=perhaps", "Requirements Flag"),
    ("rediss://x?ssl_ca_certs=/nowhere/ca.pem", "No such file"),
    ("rediss://x?ssl_colour=red", "ssl_colour"),
    ("unix://", "three slashes"),
    ("unix://tmp/redis.sock", "three slashes"),
    ("unix:///tmp/redis.sock?foo=bar", "cannot set foo"),
    ("unix:///tmp/redis%00.sock", "percent-encoded"),
    ("unix:///tmp/redis%ff.sock", "percent-encoded"),
    ("redis://x?password=50%", "percent-encoded"),
    ("redis://x?client_name=%ff", "percent-encoded"),
    ("redis://50%", "percent-encoded"),
    ("unix:///tmp/redis.sock?ssl_cert_reqs=none", "rediss://"),
]


@MAKERS
def test_url_that_does_not_fit_is_refused(make: Make) -> None:
    for url, text in UNFIT:
        with case(url):
            with pytest.raises(SettingsError, match="the Redis URL is not valid") as error:
                make(url)
            assert text in str(error.value)


SECRETS = ["pa#ss", "pa/ss", "pa?ss", "12#34", "12/34", "12?34", "12?a=b", "12/34?a=b#c", "[pass",
           "pa]ss/x", "p:a/ss", "12?db=3", "?", "#", "12/3", "x?password=y",
           "50%", "50%off", "%", "%zz", "%2", "%ff", "%C3", "a%2523%"]  # fmt: skip


@MAKERS
def test_password_that_is_not_encoded_is_refused_and_not_repeated(make: Make) -> None:
    for scheme, user, secret in itertools.product(("redis", "rediss"), ("", "anna"), SECRETS):
        url = f"{scheme}://{user}:{secret}@redis.example:6379/0"
        with case(url):
            with pytest.raises(SettingsError) as error:
                make(url)
            text = str(error.value)
            assert "the Redis URL is not valid" in text
            assert error.value.__cause__ is None and error.value.__suppress_context__
            for part in (secret, "redis.example", "anna", "34", "ss@"):
                assert part in ("?", "#", "%") or part not in text


@MAKERS
@pytest.mark.parametrize("secret", ["pa#ss", "pa/ss", "12?34"])
def test_password_for_a_socket_is_not_repeated_either(make: Make, secret: str) -> None:
    with pytest.raises(SettingsError, match="percent-encoded") as error:
        make(f"unix://:{secret}@/tmp/redis.sock")
    assert secret not in str(error.value)


FIT = [
    *("redis://", "redis://x", "redis://x/", "redis://x:1/15", "redis://[::1]:6379", "REDIS://x"),
    *("redis://ann:p%23%2F%3F@x", "redis://:p@ss@x", "redis://x?db=2&client_name=me"),
    *("redis://x?password=a@b&username=ann", "redis://x?socket_keepalive=1"),
    *("rediss://x", "rediss://x?ssl_cert_reqs=none", "rediss://x?ssl_check_hostname=false"),
    *("unix:///tmp/a@b.sock", "unix://ann:pw@/tmp/redis.sock?db=1"),
]


@MAKERS
def test_url_that_fits_is_taken(make: Make) -> None:
    for url in FIT:
        with case(url):
            make(url)
    assert sorted(OPTIONS) == list(OPTIONS)


@pytest.mark.redis
async def test_encoded_password_is_the_password(own_redis: RedisServer) -> None:
    secret = "a#b/c?d:e@f%41[g]"
    own_redis.cli("ACL", "SETUSER", "default", "resetpass", f">{secret}")
    url = own_redis.url.replace("//", f"//:{quote(secret, safe='')}@")
    await RedisBroker(url, on_unavailable="raise").publish("news", "x")
    with pytest.raises(BrokerUnavailableError, match="refuses the login"):
        await RedisBroker(own_redis.url, on_unavailable="raise").publish("news", "x")


@pytest.mark.redis
async def test_options_of_a_url_are_used(own_redis: RedisServer) -> None:
    async with RedisBroker(own_redis.url + "/3?client_name=shop") as broker:
        await broker.publish("news", "x")
        assert own_redis.cli("CLIENT", "LIST").count("name=shop") == 2


@pytest.mark.redis
async def test_certificate_must_be_that_of_the_host(own_redis: RedisServer, tmp_path: Path) -> None:
    certificate, port = make_certificate(tmp_path), free_port()
    files = [f"--tls-{name}-file {certificate}" for name in ("cert", "key", "ca-cert")]
    own_redis.kill()
    own_redis.start(
        *" ".join(files).split(),
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--bind", "127.0.0.1", "127.0.0.2"),
    )

    async def publish(host: str, options: str = "") -> None:
        url = f"rediss://{host}:{port}?ssl_ca_certs={certificate}{options}"
        await RedisBroker(url, on_unavailable="raise").publish("news", "x")
        await asyncio.to_thread(RedisPublisher(url).publish, "news", "x")

    await publish("127.0.0.1")
    await publish("localhost")
    await publish("127.0.0.2", "&ssl_check_hostname=false")
    await publish("127.0.0.2", "&ssl_cert_reqs=none")
    for options in ("", "&ssl_cert_reqs=required&ssl_cert_reqs=none"):  # the first one counts
        with pytest.raises(BrokerUnavailableError, match="Redis at"):
            await publish("127.0.0.2", options)
    url = f"rediss://127.0.0.2:{port}?ssl_ca_certs={certificate}"
    with pytest.raises(BrokerUnavailableError, match="Redis at"):
        await asyncio.to_thread(RedisPublisher(url).publish, "news", "x")
    with pytest.raises(BrokerUnavailableError, match="no Sentinel answers"):
        await RedisBroker(
            f"rediss+sentinel://127.0.0.2:{port}/x?ssl_ca_certs={certificate}",
            on_unavailable="raise",
        ).publish("news", "x")
