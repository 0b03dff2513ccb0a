"""An observer for tests: it notes what it is told."""

import asyncio
from collections.abc import Callable
from typing import Any

import async_timeout

from sockjs_aio import Broker, CloseInfo, Observer, Session
from sockjs_aio.core.events import Reason, Source
from tests.conftest import PATIENCE


class Notes(Observer):
    """Notes each event with its arguments, except for those of hooks that succeed."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.services: list[Source] = []

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of the events with this name."""
        return [event[1:] for event in self.events if event[0] == name]

    @property
    def names(self) -> list[str]:
        return [event[0] for event in self.events]

    @property
    def reasons(self) -> list[str]:
        """Why requests were refused."""
        return [reason for reason, _, _ in self.named("refused")]

    async def until(self, name: str, count: int = 1) -> None:
        """Wait for the event `name`."""
        await until(lambda: self.names.count(name) >= count)

    def attached(self, service: Source) -> None:
        self.services.append(service)

    def opened(self, session: Session) -> None:
        self.events.append(("opened", session))

    def closed(self, session: Session, info: CloseInfo) -> None:
        self.events.append(("closed", session, info))

    def refused(self, reason: Reason, transport: str, ip: str | None) -> None:
        self.events.append(("refused", reason, transport, ip))

    def hook_failed(self, session: Session, hook: str, error: BaseException) -> None:
        self.events.append(("hook_failed", session, hook, error))

    def overflowed(self, session: Session) -> None:
        self.events.append(("overflowed", session))

    def unanswered(self, session: Session) -> None:
        self.events.append(("unanswered", session))

    def relayed(self, transport: str) -> None:
        self.events.append(("relayed", transport))

    def broker_gap(self, broker: Broker) -> None:
        self.events.append(("broker_gap", broker))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with async_timeout.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.001)
