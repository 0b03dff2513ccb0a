"""`python -m benchmarks.ticks`: measures what idle sessions cost per minute, by their number.

The benchmark sets the registry's clock, so a minute takes only as long as the work of its ticks.
The frame writers discard all frames, so only this package's work is measured.
"""

import asyncio
import time

from sockjs_aio import ConnectionInfo, Settings, SockJSConnection
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.tcp import Delivery
from sockjs_aio.protocol.framing import SOCKJS

COUNTS = (1_000, 10_000, 50_000)
KINDS = ("websocket", "xhr_streaming")


class Registry(SessionRegistry):
    """A registry whose clock the benchmark sets."""

    time = 1000.0

    def now(self) -> float:
        return self.time

    def minute(self) -> float:
        """Let a minute pass; return the CPU seconds that its ticks took."""
        start = time.process_time()
        for _ in range(round(60 / self.settings.tick_interval)):
            self.time += self.settings.tick_interval
            for _ in self._clock.steps(self.time):
                pass
        return time.process_time() - start


class Nowhere:
    """A frame writer that discards all frames."""

    is_full = is_done = is_left = False
    is_alive = True
    buffered = 0

    def __init__(self, is_http: bool) -> None:
        self.is_http = is_http
        self.delivery = Delivery(None)
        self.frames = 0

    def write(self, frame: bytes) -> None:
        self.frames += 1

    def flush(self) -> int:
        return self.buffered

    def send(self, frame: bytes) -> int:
        self.write(frame)
        return self.buffered

    def conclude(self) -> None:
        pass

    def release(self) -> None:
        pass

    def probe(self, busy: bool) -> bool:
        return True

    def abort(self) -> None:
        pass


class Info(ConnectionInfo):
    """The info of a session without a request."""

    def __init__(self, transport: str) -> None:
        self.ip = "127.0.0.1"
        self.transport = transport
        self.until = None


async def measure(kind: str, count: int) -> float:
    """Return the CPU seconds per minute of `count` sessions that opened within half a minute."""
    registry = Registry(SockJSConnection, Settings())
    receivers = []
    for number in range(count):
        make = registry.open_inline if kind == "websocket" else registry.open
        session = make(str(number), Info(kind), SOCKJS)
        receivers.append(Nowhere(is_http=kind != "websocket"))
        session.attach(receivers[-1])
        registry.time += 30 / count
    registry.minute()
    before = sum(receiver.frames for receiver in receivers)
    seconds = min(registry.minute() for _ in range(2))
    beats = sum(receiver.frames for receiver in receivers) - before
    assert abs(beats - 2 * count * 60 / 25) < count, "each session has its heartbeats"
    for each in list(registry._sessions):
        each.end_now()
        each.hooks_returned()
    return seconds


def table(costs: dict[str, dict[int, float]]) -> str:
    """Return the CPU seconds per minute as a Markdown table."""
    lines = ["| idle sessions | " + " | ".join(costs) + " |", "| ---: |" + " ---: |" * len(costs)]
    for count in next(iter(costs.values())):
        cells = [f"{costs[kind][count]:.3f} s" for kind in costs]
        lines.append(f"| {count:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    costs = {kind: {count: asyncio.run(measure(kind, count)) for count in COUNTS} for kind in KINDS}
    print(table(costs))


if __name__ == "__main__":
    main()
