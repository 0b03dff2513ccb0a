"""Keeps this process's members in Redis: one set for each channel, which expires if not refreshed.

Keys: ``PREFIXnodes:CHANNEL`` is the set of the nodes that have members of a channel, and
``PREFIXmembers:NODE:CHANNEL`` is the set of one node's members.
"""

import asyncio
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from sockjs_aio.brokers.redis.commands import Command
from sockjs_aio.brokers.redis.link import Link
from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog
from sockjs_aio.errors import BrokerUnavailableError

CHUNK = 500
"""How many members to send in one command, and how many channels to refresh together."""

MAX_LEFT = 10_000
"""How many channels to remember that the last member leaves while Redis is away or refuses this.

Their sets are still there if Redis is back soon; those of any more expire.
"""

REWRITTEN = 50
"""How many channels to write together: in turn, those of a far Redis would expire meanwhile."""

MEMBERS = """
local found = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if node ~= ARGV[3] then
    local members = redis.call('SMEMBERS', ARGV[1] .. node .. ARGV[2])
    if #members == 0 then redis.call('SREM', KEYS[1], node) end
    for _, member in ipairs(members) do found[member] = true end
  end
end
local list = {}
for member in pairs(found) do list[#list + 1] = member end
return list
"""
"""Collects the members of all nodes but one, and removes nodes whose sets have expired."""


class Roll(Protocol):
    """The members in this process."""

    @property
    def populated(self) -> Collection[str]:
        """The channels that have members."""

    def local_members(self, channel: str) -> set[str]:
        """The members of `channel`."""


class Presence:
    """Keeps this node's sets in Redis up to date.  Only `keep` waits for Redis.

    Args:
        node: This node's name.
        roll: The members in this process.
        prefix: The beginning of all keys.
        expiry: Seconds after which a node that has not refreshed its sets counts as dead.
        rate_limited: The log for what Redis refuses.
    """

    def __init__(
        self, node: str, roll: Roll, *, prefix: str, expiry: float, rate_limited: RateLimitedLog
    ) -> None:
        self._rate_limited = rate_limited
        self._node = node
        self._roll = roll
        self._prefix = prefix
        self._expiry = expiry
        self._stale: set[str] = set()  # channels that Redis could not be told about
        self._is_over = False

    def announce(self, link: Link, channel: str, member: str) -> None:
        """Add `member`."""
        self._tell(link, channel, ("SADD", self._members(channel), member), *self._keep(channel))

    def withdraw(self, link: Link, channel: str, member: str) -> None:
        """Remove `member`."""
        if channel in self._roll.populated:
            self._tell(link, channel, ("SREM", self._members(channel), member))
        else:
            self._tell(link, channel, *self._clear(channel))

    async def keep(self, link: Link) -> None:
        """Write all sets to Redis and refresh them, until the link is lost."""
        self._stale.update(self._roll.populated)
        while True:
            stale = list(self._stale)
            for start in range(0, len(stale), REWRITTEN):
                some = stale[start : start + REWRITTEN]
                await asyncio.gather(*(self._rewrite(link, channel) for channel in some))
            await asyncio.sleep(self._expiry / 3)
            await self._refresh(link)

    async def clear(self, link: Link) -> None:
        """Remove all members, also those that left while the queue for Redis was full."""
        self._is_over = True
        channels = list(self._stale.union(self._roll.populated))
        for start in range(0, len(channels), CHUNK):
            orders = [functools.partial(self._clear, x) for x in channels[start : start + CHUNK]]
            await asyncio.gather(*map(link.call_with_room, orders), return_exceptions=True)

    def _tell(self, link: Link, channel: str, *commands: Command) -> None:
        put_off = functools.partial(self._put_off, channel)
        if link.is_over:
            # channels with members are written again as soon as Redis is back
            if channel not in self._roll.populated:
                put_off()
        elif not link.cast(*commands, failed=put_off):
            put_off()

    def _put_off(self, channel: str) -> None:
        if channel in self._roll.populated or len(self._stale) < MAX_LEFT:
            self._stale.add(channel)

    async def _refresh(self, link: Link) -> None:
        channels = list(self._roll.populated)
        for start in range(0, len(channels), CHUNK):
            await asyncio.gather(*(self._check(link, x) for x in channels[start : start + CHUNK]))

    async def _check(self, link: Link, channel: str) -> None:
        commands = *self._keep(channel), ("EXISTS", self._members(channel))
        if not await self._ask(link, channel, lambda: commands):
            self._stale.add(channel)  # this process was blocked for too long, or Redis lost data

    async def _rewrite(self, link: Link, channel: str) -> None:
        self._stale.discard(channel)
        await self._ask(link, channel, lambda: self._all_of(channel))

    def _all_of(self, channel: str) -> list[Command]:
        """Return the commands that write all members; queue them before the members change."""
        key = self._members(channel)
        members = [] if self._is_over else list(self._roll.local_members(channel))
        commands: list[Command] = [("MULTI",), ("DEL", key)]
        for start in range(0, len(members), CHUNK):
            commands.append(("SADD", key, *members[start : start + CHUNK]))
        commands += self._keep(channel) if members else self._clear(channel)
        return [*commands, ("EXEC",)]

    async def _ask(self, link: Link, channel: str, make: Callable[[], Sequence[Command]]) -> Any:
        try:
            return await link.call_with_room(make)
        except BaseException as error:  # also if the link is lost, which cancels this
            self._put_off(channel)
            if not isinstance(error, BrokerUnavailableError):
                raise
            text = "channel %r: other processes do not know its members here: %s"
            self._rate_limited.warn("members", text, channel, error)

    def _keep(self, channel: str) -> tuple[Command, ...]:
        nodes, expiry = self._nodes(channel), round(self._expiry * 1000)
        return (
            ("PEXPIRE", self._members(channel), expiry),
            ("SADD", nodes, self._node),
            ("PEXPIRE", nodes, expiry),
        )

    def _clear(self, channel: str) -> tuple[Command, ...]:
        return ("DEL", self._members(channel)), ("SREM", self._nodes(channel), self._node)

    def _nodes(self, channel: str) -> str:
        return nodes_key(self._prefix, channel)

    def _members(self, channel: str) -> str:
        return f"{self._prefix}members:{self._node}:{channel}"


def members_question(prefix: str, channel: str, node: str) -> Command:
    """Return the command that asks for the members in all processes except that of `node`."""
    keys = f"{prefix}members:", f":{channel}", node
    return ("EVAL", MEMBERS, 1, nodes_key(prefix, channel), *keys)


def nodes_key(prefix: str, channel: str) -> str:
    """Return the key of the set of the nodes that have members of `channel`."""
    return f"{prefix}nodes:{channel}"
