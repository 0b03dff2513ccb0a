"""Who is believed when it says that it is another node."""

import asyncio
import contextlib
import http.client
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request

from sockjs_aio.cluster.nodes.node_record import (
    NodeRecord,
    RecordForgedError,
    make_record,
    read_record,
    read_secret,
)
from sockjs_aio.cluster.relay.peers import Peer, make_client
from sockjs_aio.cluster.relay.peers import ask as ask_peer
from sockjs_aio.cluster.relay.signed_header import HeaderSigner, Purpose, SignedHeader
from tests.brokers.redis_server import RedisServer
from tests.certificate import make_certificate
from tests.nodes.conftest import Reach, RunNodes
from tests.nodes.processes import SECRET, Node
from tests.nodes.test_traffic import keys
from tests.process import PATIENCE
from tests.wire import Reply

TARGET = "/echo/0/sealed/xhr_send"


def signed(recipient: str, method: str = "POST", target: str = TARGET) -> str:
    """Make one as another node does."""
    shown = SignedHeader(Purpose.ANSWER, "https", "192.0.2.7", recipient)
    return HeaderSigner(SECRET.encode()).issue(shown, method, target)


def name_of(node: Node, redis: RedisServer) -> str:
    """Return the name by which other nodes know a node."""
    for key in keys(redis, "*:node:*"):
        if redis.cli("get", key).startswith(node.url + " "):
            return key.rpartition(":")[2]
    raise AssertionError("it is not there")


async def ask(node: Node, reach: Reach, headers: dict[str, str]) -> Reply:
    target = reach(node)
    reply: Reply = await target.request("POST", "/0/sealed/xhr_send", b'["x"]', headers=headers)
    return reply


@pytest.mark.redis
async def test_a_passport_is_good_at_the_node_that_it_was_made_for(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (node,) = run_nodes(1, {"verify_ip": True})
    assert await reach(node).poll("/0/sealed") == b"o"
    name = name_of(node, own_redis)
    reply = await ask(node, reach, {"Sockjs-Relay": signed(name)})
    assert (reply.status, reply.body) == (403, b"This session belongs to another address.\n")
    for other in ("another", ""):
        reply = await ask(node, reach, {"Sockjs-Relay": signed(other)})
        assert (reply.status, reply.header("Sockjs-Relay")) == (421, "misdirected")
    assert node.said == ""


@pytest.mark.redis
async def test_forged_passports_are_refused_and_told_of(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    (node,) = run_nodes(1)
    assert await reach(node).poll("/0/sealed") == b"o"
    name = name_of(node, own_redis)
    good = signed(name)
    for forged in (
        *("", "x", "\u00fc", "answer https 192.0.2.7 1 " + "0" * 64),
        good.replace("192.0.2.7", "192.0.2.8"),
        good.replace("answer", "release"),
        good.replace(name, "another"),
        signed(name, method="GET"),
        signed(name, target=TARGET + "?a"),
    ):
        reply = await ask(node, reach, {"Sockjs-Relay": forged})
        assert reply.status == 403, forged
        assert reply.body == b"The Sockjs-Relay header is not valid.\n"
    target = reach(node)
    reply = await target.request("GET", "/0/x/websocket", headers={"Sockjs-Relay": "x"})
    assert reply.status == 403
    assert node.said.count("Sockjs-Relay header is not valid. Either it is forged, or") == 1


@pytest.mark.redis
async def test_nodes_with_different_secrets_say_so_and_send_each_other_nothing(
    run_nodes: RunNodes, reach: Reach
) -> None:
    (owner,) = run_nodes(1)
    (other,) = run_nodes(1, secret="another one, by mistake")
    assert await reach(owner).poll("/0/a") == b"o"
    reply = await reach(other).request("POST", "/0/a/xhr_send", b'["x"]')
    assert (reply.status, reply.header("Retry-After")) == (503, "5")
    assert f"ignored a node's record in Redis: {owner.url!r} uses another secret" in other.said
    assert owner.said == ""
    assert await reach(owner).post("/0/a", '["x"]') == 204


@pytest.mark.redis
async def test_redis_cannot_send_requests_elsewhere(
    run_nodes: RunNodes, reach: Reach, own_redis: RedisServer
) -> None:
    owner, other = run_nodes(2)
    assert await reach(owner).poll("/0/a") == b"o"
    to = name_of(owner, own_redis)
    _, issued, mac = own_redis.cli("get", f"sockjs:node:{to}").split()
    own_redis.cli("set", "sockjs:node:evil", f"http://127.0.0.1:1 {issued} {mac}")
    own_redis.cli("set", "sockjs:session:/echo/a", "evil")
    assert (await reach(other).request("POST", "/0/a/xhr_send", b'["x"]')).status == 503
    assert "uses another secret" in other.said


def test_an_entry_of_which_anything_was_changed_is_forged() -> None:
    key = b"0" * 16
    record = make_record(key, "me", "http://a:1", 1000)
    assert read_record(key, "me", record, now=1000, expiry=5) == NodeRecord("http://a:1", 1000)
    for name, changed in [
        ("you", record),
        ("me", record[:-1]),
        ("me", record + "0"),
        ("me", record.replace("a:1", "b:1")),
        ("me", record.replace("1000", "1001")),
        ("me", "http://a:1"),
        ("me", "http://a:1 1000.000"),
        ("me", "\udcff"),
        ("me", ""),
    ]:
        with pytest.raises(RecordForgedError):
            read_record(key, name, changed, now=1000, expiry=5)
    with pytest.raises(RecordForgedError):
        read_record(b"1" * 16, "me", record, now=1000, expiry=5)


@pytest.mark.parametrize("secret", ["short", b"15 bytes.......", ""])
def test_a_short_secret_is_refused_with_a_way_to_make_one(secret: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 16 bytes, not \d+; to make one: python -c"):
        read_secret(secret)


@pytest.mark.redis
async def test_nodes_speak_tls_where_their_urls_say_so(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    """The third has a certificate that the others do not trust."""
    certificates = []
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        certificates.append(str(make_certificate(tmp_path / name)))
    nodes = []
    for number in (0, 0, 1):
        options = {"nodes": {"redis": own_redis.url, "secret": SECRET}}
        nodes.append(Node({**options, "certificate": certificates[number]}, tmp_path))
        nodes[-1].start()
        nodes[-1].until_ready()
    first, second, third = (node.url + "/echo/0/" for node in nodes)
    assert await post(first + "a/xhr") == (200, b"o\n")
    assert await post(second + "a/xhr_send", b'["x"]') == (204, b"")
    assert await post(second + "a/xhr") == (200, b'a["x"]\n')
    assert await post(third + "b/xhr") == (200, b"o\n")
    assert (await post(second + "b/xhr_send", b'["x"]'))[0] == 503
    assert f"the node at {nodes[2].url} cannot be reached" in nodes[1].said
    assert "certificate verify failed" in nodes[1].said
    for node in nodes:
        node.kill()
        if node is not nodes[1]:  # asyncio of Python 3.10 leaves behind what was not verified
            node.check()


async def post(url: str, body: bytes = b"") -> tuple[int, bytes]:
    """Ask whoever is there, be it proved or not."""

    def ask() -> tuple[int, bytes]:
        _, _, host, *path = url.split("/")
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(host, context=context, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("POST", "/" + "/".join(path), body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    return await asyncio.to_thread(ask)


async def test_a_question_is_not_asked_where_another_program_at_the_address_says() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        client = make_client(aiohttp.TCPConnector())
        peer = Peer(str(server.make_url("/")).rstrip("/"), client)
        request = make_mocked_request("POST", TARGET)
        assert await ask_peer(request, peer, lambda _method, _target: "x") == 307
        await client.close()
    assert asked == [TARGET]
