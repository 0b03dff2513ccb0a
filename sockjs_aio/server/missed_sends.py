"""Notices that many sends do not find their session, and logs the likely causes."""

import logging

logger: logging.Logger = logging.getLogger("sockjs_aio.transports")

WINDOW = 60.0
"""Seconds over which sends are counted; at most one warning is logged in this time."""

FEW = 3
"""Minimum number of sends without a session before a warning is logged."""


class MissedSends:
    """Counts sends, and how many of them did not find their session.

    A few always come too late.  If it is a tenth of all sends, the likely cause is a load balancer
    that sends requests of one session to different processes.
    """

    __slots__ = ("_end", "_sends", "_missed", "_is_said")

    def __init__(self) -> None:
        self._end = 0.0
        self._sends = self._missed = 0
        self._is_said = False

    def found(self) -> None:
        """Count a send that found its session."""
        self._sends += 1

    def missed(self, now: float) -> None:
        """Count a send without a session; if there are many, warn at most once a minute."""
        if now >= self._end:
            self._end = now + WINDOW
            self._sends = self._missed = 0
            self._is_said = False
        self._sends += 1
        self._missed += 1
        if self._is_said or self._missed < FEW or self._missed * 10 < self._sends:
            return
        self._is_said = True
        logger.warning(
            "%d of %d sends were for unknown sessions (404): the sessions have ended, or this "
            "server was restarted, or a load balancer does not send all requests of a session to "
            "the same process. Make the load balancer sticky (Stickiness in docs/deployment.md), "
            "or relay requests with Workers on one host (docs/workers.md) or Nodes (docs/nodes.md)",
            self._missed,
            self._sends,
        )
