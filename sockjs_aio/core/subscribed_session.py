"""What a session does when messages of its channels may have been missed."""

from sockjs_aio.core.hooks import Hooks, checked_hook
from sockjs_aio.core.lifetime import Lifetime, ended_soon
from sockjs_aio.core.sending_session import SendingSession
from sockjs_aio.gaps import GapSession


class SubscribedSession(SendingSession):
    """Adds to `SendingSession` what follows a gap; see `GapSession`."""

    __slots__ = ("_lifetime",)

    hooks: Hooks
    _lifetime: Lifetime | None

    def end_after_gap(self) -> None:
        """Close the session, within `GAP_SPREAD` seconds and a tick."""
        if self.is_open:
            self._lifetime = ended_soon(self._lifetime, self._host.now())
            self._host.arm(self)

    def insert_gap(self, session: GapSession, channel: str) -> None:
        """Call `call_on_gap` of `session`, which this one carries or is, between two hooks."""
        self.hooks.insert_gap(session, channel)

    async def call_on_gap(self, channel: str) -> None:
        """Call `on_gap`."""
        await checked_hook("on_gap", self.connection.on_gap(channel))
