"""The broker of a single process, which carries nothing anywhere."""

from sockjs_aio.brokers.base import Broker, State


class MemoryBroker(Broker):
    """Keeps messages and members in this process; what a router has unless it is told otherwise.

    Args: those of `Broker`.
    """

    @property
    def state(self) -> State:
        """Always ``"connected"``."""
        return "connected"

    def connect(self) -> None:
        """There is nothing to do."""

    async def disconnect(self) -> None:
        """There is nothing to do."""

    def listen(self, channel: str) -> None:
        """There is nobody else to listen to."""

    def unlisten(self, channel: str) -> None:
        """There is nobody else to listen to."""

    def announce(self, channel: str, member: str) -> None:
        """There is nobody else who would ask."""

    def withdraw(self, channel: str, member: str) -> None:
        """There is nobody else who would ask."""

    async def ready(self, channel: str) -> None:
        """It is so already."""

    async def send(self, channel: str, message: str) -> None:
        """There is nobody else to send it to."""

    async def remote_members(self, channel: str) -> set[str]:
        """Nobody."""
        return set()
