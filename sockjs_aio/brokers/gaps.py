"""Who is told when messages of a channel may have been missed."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable


@runtime_checkable
class ChannelGapListener(Protocol):
    """A listener of a broker that wants to know when it may have missed messages."""

    def gap_ended(self, channel: str) -> None:
        """Messages of `channel` may have been missed; from now on they arrive."""


def tell_gap(listeners: Iterable[object], channel: str) -> None:
    """Call `gap_ended` of those that have it."""
    for listener in list(listeners):
        if isinstance(listener, ChannelGapListener):
            listener.gap_ended(channel)
