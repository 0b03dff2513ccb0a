"""Brokers that carry messages between routers of one test, and that can be cut off."""

from sockjs_aio.brokers.base import Broker, State
from sockjs_aio.connection import SockJSConnection
from sockjs_aio.errors import BrokerUnavailableError


class LinkedBroker(Broker):
    """A broker linked to others in the same test, as through Redis.  `linked_brokers` makes them.

    Like `RedisBroker`, it drops messages for other processes while it is cut off, unless you make
    it with ``on_unavailable="raise"``.
    """

    def __init__(self, group: "list[LinkedBroker]", raises: bool) -> None:
        super().__init__()
        self._group = group
        self._raises = raises
        self._is_cut = False
        self._unsent: set[str] = set()  # channels of which messages for the others were lost

    def cut(self) -> None:
        """Cut the link: nothing goes to the others or comes from them, until `mend`."""
        self._is_cut = True

    def mend(self) -> None:
        """Mend the link; what was published meanwhile is lost, and counts as a gap.

        `on_gap` is called here for all channels, and in the others for those whose messages they
        have missed.
        """
        if self._is_cut:
            self._is_cut = False
            self._count_gap()
            for channel in list(self.channels):
                self.end_gap(channel)
            for other in self._reachable():
                for channel in self._unsent:
                    other.end_gap(channel)
            self._unsent.clear()

    @property
    def state(self) -> State:
        """``"reconnecting"`` while it is cut off."""
        if not self._users:
            return "stopped"
        return "reconnecting" if self._is_cut else "connected"

    def connect(self) -> None:
        """Do nothing: the link is there."""

    async def disconnect(self) -> None:
        """Do nothing: subscriptions and members have left one by one."""

    def listen(self, channel: str) -> None:
        """Do nothing: the others look at `channels`."""

    def unlisten(self, channel: str) -> None:
        """Do nothing: the others look at `channels`."""

    def announce(self, channel: str, member: str) -> None:
        """Do nothing: the others ask."""

    def withdraw(self, channel: str, member: str) -> None:
        """Do nothing: the others ask."""

    async def ready(self, channel: str) -> None:
        """Do nothing: `listen` has taken effect."""

    async def send(self, channel: str, message: str, key: str | None) -> None:
        """Deliver to the others."""
        if self._is_cut:
            self._unsent.add(channel)
            self._complain()
        for other in self._reachable():
            other.deliver(channel, message, key=key)

    async def send_close(
        self, channel: str, code: int, reason: str, kept: list[SockJSConnection]
    ) -> None:
        """Close sessions of the others."""
        if self._is_cut:
            self._unsent.add(channel)
            self._complain()
        for other in self._reachable():
            other.close_sessions(channel, code, reason)

    async def remote_members(self, channel: str) -> set[str]:
        """Ask the others.

        Raises:
            BrokerUnavailableError: While it is cut off.
        """
        if self._is_cut:
            raise BrokerUnavailableError("the broker is cut off")
        return set().union(*(other.local_members(channel) for other in self._reachable()))

    def _complain(self) -> None:
        if self._raises:
            raise BrokerUnavailableError("the broker is cut off")

    def _reachable(self) -> "list[LinkedBroker]":
        if self._is_cut:
            return []
        return [other for other in self._group if other is not self and not other._is_cut]


def linked_brokers(count: int = 2, *, on_unavailable: str = "drop") -> list[LinkedBroker]:
    """Make brokers for `count` routers that stand for as many processes.

    Args:
        count: How many.
        on_unavailable: What `publish` does while its broker is cut off: ``"drop"`` or ``"raise"``,
            as for `RedisBroker`.

    Raises:
        ValueError: If `on_unavailable` is neither.
    """
    if on_unavailable not in ("drop", "raise"):
        raise ValueError(f'on_unavailable={on_unavailable!r}: it must be "drop" or "raise"')
    group: list[LinkedBroker] = []
    group += [LinkedBroker(group, on_unavailable == "raise") for _ in range(count)]
    return group
