"""Who is told when messages of a channel may have been missed."""

import logging
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")


@runtime_checkable
class GapListener(Protocol):
    """Wants to know when messages may be missed; a user of a broker may be one."""

    def gap_began(self) -> None:
        """From now on, messages from other processes may be missed."""


@runtime_checkable
class ChannelGapListener(Protocol):
    """A listener of a broker that wants to know when it may have missed messages."""

    def gap_ended(self, channel: str) -> None:
        """Messages of `channel` may have been missed; from now on they arrive."""


def tell_gap_began(users: Iterable[object]) -> None:
    """Call `gap_began` of those that have it; log what it raises."""
    for user in list(users):
        if isinstance(user, GapListener):
            try:
                user.gap_began()
            except Exception:
                logger.exception("a user of the broker failed when a gap began")


def tell_gap(listeners: Iterable[object], channel: str) -> None:
    """Call `gap_ended` of those that have it; log what it raises."""
    for listener in list(listeners):
        if isinstance(listener, ChannelGapListener):
            try:
                listener.gap_ended(channel)
            except Exception:
                logger.exception("channel %r: a listener failed when it was told of a gap", channel)
