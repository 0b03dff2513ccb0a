"""Notices that requests do not find their sessions, and says in the log what that may come from."""

import logging

logger = logging.getLogger("sockjs_aio")

WINDOW = 60.0
"""Seconds that are looked at together, and for which one line is enough."""

FEW = 3
"""Sends without a session that are no reason to say anything, whatever the others did."""


class StickinessCheck:
    """Counts sends, and those of them whose session is not here.

    A few always come too late.  When it is a tenth of them all, the likely cause is a load balancer
    that sends requests of one session to different processes.
    """

    __slots__ = ("_end", "_sends", "_missed", "_is_said")

    def __init__(self) -> None:
        self._end = 0.0
        self._sends = self._missed = 0
        self._is_said = False

    def found(self) -> None:
        """A send has found its session."""
        self._sends += 1

    def missed(self, now: float) -> None:
        """A send has found no session; say so, if that happens often, once a minute at most."""
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
            "%d of %d sends were for sessions that are not here (404): they have ended, or this "
            "server has started anew, or a load balancer does not send all requests of a session "
            "to one process: have it do so (Stickiness in docs/deployment.md), or have requests "
            "handed on, by Workers on one host (docs/workers.md) or by Nodes (docs/nodes.md)",
            self._missed,
            self._sends,
        )
