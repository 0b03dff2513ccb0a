"""How a process ends without losing a client: what happens before its listener is closed."""

import asyncio
import logging
from dataclasses import dataclass

import async_timeout
from aiohttp import web

from sockjs_aio.server.service import services_of

logger = logging.getLogger("sockjs_aio")


@dataclass(frozen=True)
class Drain:
    """How a process ends.

    Raises:
        ValueError: If a time is below 0.
    """

    notice: float = 2.0
    """Seconds for load balancers to notice that no new clients may come."""
    over: float = 2.0
    """Seconds over which sessions are closed."""
    limit: float = 30.0
    """Seconds after which it ends, whoever is left."""

    def __post_init__(self) -> None:
        for name in ("notice", "over", "limit"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be seconds, 0 or above")

    async def run(self, app: web.Application) -> None:
        """Do all that comes before the listener is closed, within `limit`."""
        endings = [service.registry.closing for service in services_of(app)]
        loop = asyncio.get_running_loop()
        start = loop.time()
        logger.info(
            "ending: readiness is off; in %g s sessions are closed, over %g s, for at most %g s",
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
                logger.info("closing %d sessions over %g s", count, self.over)
                await asyncio.gather(*(ending.drain(self.over) for ending in endings))
        except asyncio.TimeoutError:
            logger.warning("the end has taken %g s: whoever is left is cut off", self.limit)
        else:
            logger.info("the drain is over, after %.1f s", loop.time() - start)
