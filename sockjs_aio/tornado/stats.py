"""The counts and moving averages of ``router.stats.dump()``."""

import asyncio
import contextvars
from collections import Counter, deque
from typing import Any

PERIOD = 10
"""Seconds over which averages are taken."""


class MovingAverage:
    """The average per second over the last `period` seconds."""

    def __init__(self, period: int = PERIOD) -> None:
        self.period = period
        self.accumulator: int = 0
        self.sum: int = 0
        self.stream: deque[int] = deque(maxlen=period)
        self.last_average: float = 0.0

    def add(self, n: int) -> None:
        """Add `n` to the current second."""
        self.accumulator += n

    def flush(self) -> None:
        """End the current second and update the average."""
        self.stream.append(self.accumulator)
        self.accumulator = 0
        self.sum = sum(self.stream)
        self.last_average = self.sum / len(self.stream)


class StatsCollector:
    """Counts a router's sessions, requests and messages.

    A message costs one addition.  A timer ends each second.  It runs only while there are
    sessions, requests, or averages above zero, so an idle router costs nothing.
    """

    def __init__(self, io_loop: Any = None) -> None:
        self.io_loop = io_loop
        self.sess_active: int = 0
        self.sess_transports: Counter[str] = Counter()
        self.conn_active: int = 0
        self.conn_ps: MovingAverage = MovingAverage()
        self.pack_sent_ps: MovingAverage = MovingAverage()
        self.pack_recv_ps: MovingAverage = MovingAverage()
        self._timer: asyncio.TimerHandle | None = None

    def dump(self) -> dict[str, float]:
        """Return the counts, with one ``transp_NAME`` for each transport used so far."""
        transports = {f"transp_{name}": n for name, n in self.sess_transports.items()}
        return {
            "sessions_active": self.sess_active,
            "connections_active": self.conn_active,
            "connections_ps": self.conn_ps.last_average,
            "packets_sent_ps": self.pack_sent_ps.last_average,
            "packets_recv_ps": self.pack_recv_ps.last_average,
            **transports,
        }

    def on_sess_opened(self, transport: str) -> None:
        """Count a session that opens."""
        self.sess_active += 1
        self.sess_transports[transport] += 1
        self._start()

    def on_sess_closed(self, transport: str) -> None:
        """Count a session that ends."""
        self.sess_active -= 1
        self.sess_transports[transport] -= 1

    def on_conn_opened(self) -> None:
        """Count a request that starts."""
        self.conn_active += 1
        self.conn_ps.add(1)
        self._start()

    def on_conn_closed(self) -> None:
        """Count a request that ends."""
        self.conn_active -= 1

    def on_pack_sent(self, num: int) -> None:
        """Count `num` messages to clients."""
        self.pack_sent_ps.accumulator += num

    def on_pack_recv(self, num: int) -> None:
        """Count `num` messages from clients."""
        self.pack_recv_ps.accumulator += num

    def _start(self) -> None:
        if self._timer is None:
            # in an empty context: that of the request which happens to start it would be kept alive
            call_later = asyncio.get_running_loop().call_later
            self._timer = call_later(1, self._tell_second, context=contextvars.Context())

    def _tell_second(self) -> None:
        averages = (self.conn_ps, self.pack_sent_ps, self.pack_recv_ps)
        for average in averages:
            average.flush()
        self._timer = None
        if self.sess_active or self.conn_active or any(average.sum for average in averages):
            self._start()
