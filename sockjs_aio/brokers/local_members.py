"""The members of channels in this process, and who wants to know when they change."""

from collections import Counter
from collections.abc import Collection
from typing import Protocol


class MemberListener(Protocol):
    """Wants to know when members of this process come and go; see `Broker.watch`."""

    def members_changed(self, channel: str) -> None:
        """The members of `channel` in this process are others now."""


class LocalMembers:
    """Counts how often each member has joined each channel."""

    __slots__ = ("_members", "_listeners")

    def __init__(self) -> None:
        self._members: dict[str, Counter[str]] = {}
        self._listeners: dict[str, list[MemberListener]] = {}

    @property
    def channels(self) -> Collection[str]:
        """The channels that have members."""
        return self._members.keys()

    def of(self, channel: str) -> set[str]:
        """The members of `channel`."""
        return set(self._members.get(channel, ()))

    def add(self, channel: str, member: str) -> bool:
        """Add `member` once; return whether it is new."""
        members = self._members.setdefault(channel, Counter())
        members[member] += 1
        return members[member] == 1

    def remove(self, channel: str, member: str) -> bool:
        """Remove `member` once; return whether that was the last time."""
        members = self._members[channel]
        members[member] -= 1
        if members[member]:
            return False
        del members[member]
        if not members:
            del self._members[channel]
        return True

    def watch(self, channel: str, listener: MemberListener) -> None:
        """Tell `listener` what `tell` tells about `channel`."""
        self._listeners.setdefault(channel, []).append(listener)

    def unwatch(self, channel: str, listener: MemberListener) -> None:
        """Stop telling `listener`."""
        listeners = self._listeners[channel]
        listeners.remove(listener)
        if not listeners:
            del self._listeners[channel]

    def tell(self, channel: str) -> None:
        """Tell the listeners that the members of `channel` have changed."""
        for listener in list(self._listeners.get(channel, ())):
            listener.members_changed(channel)
