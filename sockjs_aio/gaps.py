"""What sessions and connections know of gaps, in which messages of a channel may be missed."""

import abc
from typing import Protocol


class GapHook:
    """The hook for gaps; `SockJSConnection` has it."""

    async def on_gap(self, channel: str) -> None:
        """Called when messages of `channel` may have been missed, as soon as it works again.

        Newer messages arrive, so read again what this channel tells your client about.  This is
        called once for each gap, before messages that wait, and only while the session is
        subscribed.  With the setting ``on_gap="close"`` it is not called: the session is closed.
        """


class GapSession(abc.ABC):
    """What a session does after a gap; `Session` derives from it."""

    __slots__ = ()

    connection: GapHook

    @property
    @abc.abstractmethod
    def channels(self) -> "GapChannels":
        """The subscriptions of all sessions of the router."""

    def gap_ended(self, channel: str) -> None:
        """Have `on_gap` called, if the connection's class has it."""
        try:
            hook = getattr(self.connection.on_gap, "__func__", None)
        except Exception:  # a property: it fails again where it is called as a hook
            hook = None
        if hook is not GapHook.on_gap:
            self.insert_gap(self, channel)

    @abc.abstractmethod
    def end_after_gap(self) -> None:
        """Close the session, so that its client connects again."""

    @abc.abstractmethod
    def insert_gap(self, session: "GapSession", channel: str) -> None:
        """Have `call_on_gap` of `session` awaited between two hooks of this session.

        `session` is this one, or one that it carries.
        """

    @abc.abstractmethod
    async def call_on_gap(self, channel: str) -> None:
        """Call `on_gap`.  The session is subscribed to `channel`."""


class GapChannels(Protocol):
    """Who is subscribed to which channel; `Subscriptions` derives from it."""

    def is_subscribed(self, session: GapSession, channel: str) -> bool:
        """Tell whether `session` is subscribed to `channel`."""
        ...
