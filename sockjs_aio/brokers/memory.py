"""The broker for a single process: it has nothing to carry to other processes."""

from sockjs_aio.brokers.base import Broker, State
from sockjs_aio.connection import SockJSConnection


class MemoryBroker(Broker):
    """Keeps messages and members in this process.  It is a router's default broker.

    With several workers or nodes, the log warns of the first channel that is subscribed to.  If
    your subclass does reach other processes, set ``is_local = False``.

    Args: the same as for `Broker`.
    """

    is_local = True

    @property
    def state(self) -> State:
        """Always ``"connected"``."""
        return "connected"

    def connect(self) -> None:
        """Do nothing."""

    async def disconnect(self) -> None:
        """Do nothing."""

    def listen(self, channel: str) -> None:
        """Do nothing: no other process publishes."""

    def unlisten(self, channel: str) -> None:
        """Do nothing: no other process publishes."""

    def announce(self, channel: str, member: str) -> None:
        """Do nothing: no other process asks."""

    def withdraw(self, channel: str, member: str) -> None:
        """Do nothing: no other process asks."""

    async def ready(self, channel: str) -> None:
        """Do nothing: `listen` and `announce` have no effect to wait for."""

    async def send(self, channel: str, message: str, key: str | None) -> None:
        """Do nothing: no other process has subscribers."""

    async def send_close(
        self, channel: str, code: int, reason: str, kept: list[SockJSConnection]
    ) -> None:
        """Do nothing: no other process has subscribers."""

    async def remote_members(self, channel: str) -> set[str]:
        """Return an empty set: no other process has members."""
        return set()
