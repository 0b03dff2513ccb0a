"""A report of a node whose answer is lost, just when Redis has lost its data."""

import asyncio
import gc
from typing import Any

import pytest

from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
from sockjs_aio.cluster.nodes.directory import Directory
from sockjs_aio.cluster.nodes.locator import NodeLocator
from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError
from tests.brokers.proxy import Proxy
from tests.brokers.redis_server import RedisServer
from tests.nodes.test_claims import Registry, add

pytestmark = pytest.mark.redis


def directory_at(url: str, *, expiry: float = 60, timeout: float = 1) -> Directory:
    return Directory(
        url,
        own="me",
        record=lambda: "x",
        namespace="sockjs:",
        lease=600,
        expiry=expiry,
        timeout=timeout,
    )


async def lose_an_answer(directory: Directory, redis: RedisServer, proxy: Proxy) -> None:
    """Have Redis carry out a report of which the node gets no answer."""
    proxy.is_deaf = True
    with pytest.raises(DirectoryUnavailableError):
        await directory.register(())
    proxy.is_deaf = False
    assert redis.cli("exists", "sockjs:node:me") == "1"


async def test_redis_that_has_lost_its_data_is_noticed_although_the_first_answer_is_lost(
    own_redis: RedisServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    directory = directory_at(proxy.url)
    await directory.register(())
    assert directory.is_settled
    own_redis.cli("flushall")
    await lose_an_answer(directory, own_redis, proxy)
    await directory.register(())
    assert "has lost its data" in caplog.text
    with pytest.raises(DirectoryUnavailableError):
        await directory.find("a session of another node, which will report it again", "1")
    await directory.close()


async def test_redis_that_only_did_not_answer_is_not_taken_for_one_that_has_lost_its_data(
    own_redis: RedisServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    directory = directory_at(proxy.url)
    await directory.register(())
    before = directory.lost_at
    await lose_an_answer(directory, own_redis, proxy)
    await directory.register(())
    assert directory.is_settled
    assert directory.lost_at == before
    assert "has lost its data" not in caplog.text
    await directory.close()


async def test_a_node_that_was_cut_off_from_redis_does_not_say_that_redis_has_lost_its_data(
    own_redis: RedisServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    directory = directory_at(proxy.url, expiry=1)
    await directory.register(())
    proxy.target, port = 1, proxy.target
    proxy.cut()
    with pytest.raises(DirectoryUnavailableError):
        await directory.register(())
    while own_redis.cli("exists", "sockjs:node:me") == "1":
        await asyncio.sleep(0.05)
    proxy.target = port
    await directory.register(())
    assert "Redis at 127.0.0.1" in caplog.text and "may have lost its data" in caplog.text
    assert not directory.is_settled
    await directory.close()


@pytest.mark.parametrize("what", ["claim", "look up", "record", "report"])
async def test_what_was_asked_before_all_nodes_have_reported_again_says_nothing(
    own_redis: RedisServer, proxy: Proxy, what: str
) -> None:
    """The answer comes when they have; but they had not when Redis answered."""
    directory = directory_at(proxy.url, expiry=2, timeout=20)
    await directory.register(())
    own_redis.cli("flushall")
    await directory.register(())
    loop = asyncio.get_running_loop()
    await asyncio.sleep(directory.settling.until - loop.time() - 0.4)
    await directory.register(())
    assert not directory.is_settled
    proxy.delay = 0.8
    if what == "report":
        assert await directory.register(["other"]) == {}
    else:
        with pytest.raises(DirectoryUnavailableError):
            if what == "record":
                await directory.record_of("other")
            else:
                await directory.find("sockjs:k", "1" if what == "claim" else "")
    assert directory.is_settled
    await directory.close()


async def test_a_redis_that_has_just_lost_its_data_says_of_no_node_that_it_has_ended(
    own_redis: RedisServer,
) -> None:
    """As when a node cannot be reached at that moment; its record is not written again yet."""
    directory = directory_at(own_redis.url)
    await directory.register(())
    own_redis.cli("flushall")
    with pytest.raises(DirectoryUnavailableError):
        await directory.record_of("other")
    assert not directory.is_settled
    await directory.register(())
    own_redis.cli("set", "sockjs:node:other", "y")
    assert await directory.record_of("other") == "y"
    await directory.close()


async def test_an_id_that_a_request_only_asks_for_is_not_reported_to_a_redis_that_has_lost_its_data(
    own_redis: RedisServer,
) -> None:
    """Another node may have it, and may not have reported it again yet."""
    directory = directory_at(own_redis.url)
    locator = NodeLocator(directory, b"0" * 16, timeout=1, silence=1, expiry=60)
    keeper = ClaimKeeper(directory, locator, print, interval=1, expiry=60, refresh_after=600)
    await keeper.look()
    registry: Any = Registry()
    with locator.claims.use("sockjs:asked", registry, "asked"):
        own_redis.cli("flushall")
        await keeper.look()
        assert own_redis.cli("keys", "sockjs:asked") == ""
        add(locator.claims, registry, "sockjs:held")
        own_redis.cli("flushall")
        await keeper.look()
        assert own_redis.cli("keys", "sockjs:[ah]*") == "sockjs:held"
    await locator.close()
    await directory.close()


async def test_many_ids_that_are_given_back_at_once_do_not_make_redis_look_dead(
    own_redis: RedisServer, proxy: Proxy
) -> None:
    """As when a node with many openings under way begins to drain, and Redis is far away."""
    directory = directory_at(proxy.url, timeout=2)
    await directory.register(())
    proxy.delay = 0.05
    keys = [f"k{number}" for number in range(300)]
    await asyncio.gather(*(directory.give_back(key, "1") for key in keys))
    await asyncio.gather(*(directory.record_of(key) for key in keys))
    assert not directory.is_down
    await directory.close()


async def test_a_report_that_is_cancelled_hides_no_loss_from_lookups(
    own_redis: RedisServer, proxy: Proxy
) -> None:
    """As when the client leaves whose request is the first one after a pause."""
    directory = directory_at(proxy.url)
    await directory.register(())
    own_redis.cli("flushall")
    proxy.is_deaf = True
    reporting = asyncio.ensure_future(directory.register(()))
    while own_redis.cli("exists", "sockjs:node:me") == "0":
        await asyncio.sleep(0.01)
    reporting.cancel()
    proxy.is_deaf = False
    await asyncio.wait([reporting])
    with pytest.raises(DirectoryUnavailableError):
        await directory.find("k", "1")
    await directory.close()


async def test_a_claim_whose_answer_was_lost_has_a_full_lease_once_it_is_made_again(
    own_redis: RedisServer, proxy: Proxy
) -> None:
    """The node refreshes it only after a third of the lease."""
    directory = directory_at(proxy.url)
    await directory.register(())
    assert await directory.find("another") is None  # Redis knows the script by now
    proxy.is_deaf = True
    with pytest.raises(DirectoryUnavailableError):
        await directory.find("k", "1")
    proxy.is_deaf = False
    assert own_redis.cli("pexpire", "k", "5000") == "1"  # as if that were long ago
    await directory.register(())
    found = await directory.find("k", "1")
    assert found is not None and found.name == "me"
    assert int(own_redis.cli("pttl", "k")) > 500_000
    await directory.close()


async def test_a_command_that_fails_once_its_caller_has_gone_is_no_error(
    own_redis: RedisServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller may be a request that waits until its node is sure, and whose client leaves."""
    directory = directory_at(proxy.url, timeout=0.2)
    proxy.is_deaf = True
    asking = asyncio.ensure_future(directory.register(()))
    await asyncio.sleep(0.05)
    asking.cancel()
    while not directory.is_down:
        await asyncio.sleep(0.01)
    await directory.close()
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_late_removal_does_not_hit_a_later_claim(own_redis: RedisServer) -> None:
    """A node may have claimed an id again before Redis removes it."""
    directory = directory_at(own_redis.url)
    await directory.register(())
    await directory.find("k", "1")
    await directory.find("k", "2")
    await directory.give_back("k", "1")
    await directory.remove([("k", "1")])
    assert own_redis.cli("get", "k") == "me/2"
    await directory.remove([("k", "2")])
    assert own_redis.cli("exists", "k") == "0"
    await directory.close()


async def test_a_claim_that_the_node_has_gets_a_full_lease_although_redis_may_lack_others(
    own_redis: RedisServer,
) -> None:
    """It may be one whose answer was lost."""
    directory = directory_at(own_redis.url)
    await directory.register(())
    own_redis.cli("flushall")
    await directory.register(())
    assert not directory.is_settled
    own_redis.cli("set", "k", "me/1", "px", "5000")
    found = await directory.find("k", "2")
    assert found is not None and found.name == "me"
    assert own_redis.cli("get", "k") == "me/2"
    assert int(own_redis.cli("pttl", "k")) > 500_000
    await directory.close()


async def test_a_claim_that_reaches_redis_late_does_not_take_the_place_of_a_later_one(
    own_redis: RedisServer,
) -> None:
    """Its connection was given up, and so was the claim: its removal spares the later one."""
    directory = directory_at(own_redis.url)
    await directory.register(())
    for later, late in (("2", "1"), ("10", "9")):
        owner = await directory.find("sockjs:k", later)
        assert owner is not None and owner.name == "me"
        assert await directory.find("sockjs:k", late) == owner
        await directory.remove([("sockjs:k", late)])
        assert own_redis.cli("get", "sockjs:k") == f"me/{later}"
    await directory.remove([("sockjs:k", "10")])
    assert own_redis.cli("exists", "sockjs:k") == "0"
    await directory.close()


async def test_a_claim_that_is_refreshed_keeps_its_token(own_redis: RedisServer) -> None:
    """Redis may have that of an earlier one, as after a failover: its removal spares the later."""
    directory = directory_at(own_redis.url)
    await directory.register(())
    for earlier, later in (("1", "2"), ("9", "10")):
        for token in (earlier, later, earlier):  # the last of them is late
            assert await directory.refresh([("sockjs:k", token)]) == []
        await directory.remove([("sockjs:k", earlier)])
        assert own_redis.cli("get", "sockjs:k") == f"me/{later}"
    await directory.close()
