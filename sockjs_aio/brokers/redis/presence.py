"""Tells Redis who is there in this process: a set for each channel, which expires if not refreshed.

Keys: ``PREFIXnodes:CHANNEL`` is the set of the nodes that have members, and
``PREFIXmembers:NODE:CHANNEL`` that of one node's members.
"""

import asyncio
import functools
from collections.abc import Collection
from typing import Any, Protocol

from sockjs_aio.brokers.redis.commands import Command
from sockjs_aio.brokers.redis.link import Link
from sockjs_aio.brokers.redis.rate_limited_log import RateLimitedLog
from sockjs_aio.errors import BrokerUnavailableError

CHUNK = 500
"""Members in one command, and channels that are refreshed in one go."""

MEMBERS = """
local found = {}
for _, node in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local members = redis.call('SMEMBERS', ARGV[1] .. node .. ARGV[2])
  if #members == 0 then redis.call('SREM', KEYS[1], node) end
  for _, member in ipairs(members) do found[member] = true end
end
local list = {}
for member in pairs(found) do list[#list + 1] = member end
return list
"""
"""Collects the members of all nodes, and forgets nodes whose sets have expired."""


class Roll(Protocol):
    """Who is there in this process."""

    @property
    def populated(self) -> Collection[str]:
        """The channels that have members."""

    def local_members(self, channel: str) -> set[str]:
        """The members of one of them."""


class Presence:
    """Keeps Redis told; nothing here is waited for but the refreshing.

    Args:
        node: This node's name.
        roll: Who is there.
        prefix: What all keys begin with.
        expiry: Seconds after which a node that has not refreshed its sets is taken for dead.
        rate_limited: Where to say what Redis refuses.
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

    def announce(self, link: Link, channel: str, member: str) -> None:
        """Add `member`."""
        self._tell(link, channel, ("SADD", self._members(channel), member), *self._keep(channel))

    def withdraw(self, link: Link, channel: str, member: str) -> None:
        """Take `member` away."""
        if channel in self._roll.populated:
            self._tell(link, channel, ("SREM", self._members(channel), member))
        else:
            self._tell(link, channel, *self._clear(channel))

    async def keep(self, link: Link) -> None:
        """Tell all, and refresh it, while the link lasts."""
        self._stale.update(self._roll.populated)
        while True:
            for channel in list(self._stale):
                await self._rewrite(link, channel)
            await asyncio.sleep(self._expiry / 3)
            await self._refresh(link)

    def clear(self, link: Link) -> None:
        """Take everybody away."""
        for channel in self._roll.populated:
            link.cast(*self._clear(channel))

    def _tell(self, link: Link, channel: str, *commands: Command) -> None:
        stale = functools.partial(self._stale.add, channel)
        if not link.cast(*commands, refused=stale):
            stale()

    async def _refresh(self, link: Link) -> None:
        channels = list(self._roll.populated)
        for start in range(0, len(channels), CHUNK):
            await asyncio.gather(*(self._check(link, x) for x in channels[start : start + CHUNK]))

    async def _check(self, link: Link, channel: str) -> None:
        commands = *self._keep(channel), ("EXISTS", self._members(channel))
        if not await self._ask(link, channel, *commands):
            self._stale.add(channel)  # this process was held up for too long, or data was lost

    async def _rewrite(self, link: Link, channel: str) -> None:
        self._stale.discard(channel)
        key, members = self._members(channel), list(self._roll.local_members(channel))
        commands: list[Command] = [("DEL", key)]
        for start in range(0, len(members), CHUNK):
            commands.append(("SADD", key, *members[start : start + CHUNK]))
        commands += self._keep(channel) if members else self._clear(channel)
        await self._ask(link, channel, ("MULTI",), *commands, ("EXEC",))

    async def _ask(self, link: Link, channel: str, *commands: Command) -> Any:
        try:
            return await link.call(*commands)
        except BrokerUnavailableError as error:
            self._stale.add(channel)
            self._rate_limited.warn(
                "members", "channel %r: members are not told: %s", channel, error
            )

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


def members_question(prefix: str, channel: str) -> Command:
    """Return the command that answers who is there, in all processes."""
    return ("EVAL", MEMBERS, 1, nodes_key(prefix, channel), f"{prefix}members:", f":{channel}")


def nodes_key(prefix: str, channel: str) -> str:
    """Name the set of the nodes that have members."""
    return f"{prefix}nodes:{channel}"
