"""Draining: how a process closes its sessions before it stops listening, without losing clients."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import async_timeout
from aiohttp import web

from sockjs_aio.server.service import Service, services_of

logger: logging.Logger = logging.getLogger("sockjs_aio")


@dataclass(frozen=True)
class Drain:
    """How long each step of a drain takes, in seconds.

    Raises:
        ValueError: If a time is negative.
    """

    notice: float = 2.0
    """How long load balancers have to notice that this process takes no new clients."""
    over: float = 2.0
    """The period over which sessions are closed."""
    limit: float = 30.0
    """Maximum length of the whole drain; then the process ends even if sessions remain."""

    def __post_init__(self) -> None:
        for name in ("notice", "over", "limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be seconds, 0 or more")

    async def run(self, app: web.Application) -> None:
        """Close all sessions of `app` within `limit` seconds; accept new ones during `notice`."""
        endings = [service.registry.closing for service in services_of(app)]
        loop = asyncio.get_running_loop()
        start = loop.time()
        logger.info(
            "drain: readiness is off; closing sessions in %g s, spread over %g s (limit: %g s)",
            self.notice,
            self.over,
            self.limit,
        )
        try:
            async with async_timeout.timeout(self.limit):
                for ending in endings:
                    ending.is_announced = True
                await asyncio.sleep(self.notice)
                count = sum(len(service.registry) for service in services_of(app))
                logger.info("closing %s over %g s", number_of_sessions(count), self.over)
                with progress(services_of(app), logger):
                    await asyncio.gather(*(ending.drain(self.over) for ending in endings))
        except asyncio.TimeoutError:
            logger.warning("drain exceeded %g s; closing the remaining sessions", self.limit)
        except Exception:  # the process must end nevertheless
            logger.exception("drain failed; closing the remaining sessions")
        else:
            logger.info("drain finished after %.1f s", loop.time() - start)


async def end_sessions(app: web.Application) -> None:
    """End all sessions of `app` and then stop its brokers, as an ``on_shutdown`` handler.

    `SockJSRouter.attach` does so too.  This is for routes that were added by hand: without it their
    hooks and `on_presence` would go on while the application is cleaned up.
    """
    registries = [service.registry for service in services_of(app)]
    await asyncio.gather(*(registry.shutdown() for registry in registries))
    await asyncio.gather(*(registry.channels.stop() for registry in registries))


@contextlib.contextmanager
def progress(services: Sequence[Service], log: logging.Logger, who: str = "") -> Iterator[None]:
    """Log once a second how many of the sessions are closed, until all are or this is left.

    Args:
        services: Whose sessions are being closed.
        log: Where to.
        who: The beginning of each line.
    """
    task = asyncio.get_running_loop().create_task(_log_progress(services, log, who))
    try:
        yield
    finally:
        task.cancel()


async def _log_progress(services: Sequence[Service], log: logging.Logger, who: str) -> None:
    total = left = _count_open(services)
    while left:
        await asyncio.sleep(1)
        left = _count_open(services)
        log.info("%s%s of %s closed", who, f"{total - left:,}", number_of_sessions(total))


def number_of_sessions(count: int) -> str:
    """Return ``"1 session"`` or ``"1,200 sessions"``."""
    return f"{count:,} session{'' if count == 1 else 's'}"


def _count_open(services: Sequence[Service]) -> int:
    return sum(service.registry.counters.open_sessions for service in services)
