"""Who is told when messages of a channel may have been missed."""

import logging
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

logger: logging.Logger = logging.getLogger("sockjs_aio.broker")


@runtime_checkable
class ChannelGapListener(Protocol):
    """A listener of a broker that wants to know when it may have missed messages."""

    def gap_ended(self, channel: str) -> None:
        """Messages of `channel` may have been missed; from now on they arrive."""


def tell_gap(listeners: Iterable[object], channel: str) -> None:
    """Call `gap_ended` of those that have it; log what it raises."""
    for listener in list(listeners):
        if isinstance(listener, ChannelGapListener):
            try:
                listener.gap_ended(channel)
            except Exception:
                logger.exception("channel %r: telling a listener of a gap failed", channel)
