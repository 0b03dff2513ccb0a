"""What the hooks of a connection need of its session."""

from typing import Protocol

from sockjs_aio.connection import SockJSConnection
from sockjs_aio.protocol.ends import GO_AWAY, End, Initiator
from sockjs_aio.session_info import CloseInfo, ConnectionInfo
from sockjs_aio.stats import Telling


class HookedSession(Protocol):
    """A session, as its hooks see it."""

    connection: SockJSConnection
    close_info: CloseInfo | None

    @property
    def info(self) -> ConnectionInfo:
        """About the request that opened it."""

    @property
    def events(self) -> Telling:
        """Tells observers what happens."""

    @property
    def is_open(self) -> bool:
        """Whether messages are accepted."""

    def close(
        self,
        code: int = GO_AWAY.code,
        reason: str = GO_AWAY.reason,
        initiator: Initiator = "server",
    ) -> None:
        """Close the session, because a hook failed or refused the client."""

    def peer_failed(self, end: End) -> None:
        """The client disconnected while a hook was running."""

    def hooks_returned(self) -> None:
        """The running hook has returned, and no other one follows now."""
