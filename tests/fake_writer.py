"""The other side of `core.frame_writer`: a receiver that keeps its frames, and no request."""

import math
from collections.abc import Callable

from sockjs_aio import ConnectionInfo
from sockjs_aio.core.tcp import Delivery


class FakeWriter:
    """Does what the contract says; the test decides when it is full or lost."""

    def __init__(
        self,
        *,
        is_http: bool = True,
        limit: int | None = None,
        on_abort: Callable[[], None] | None = None,
    ) -> None:
        self.is_http = is_http
        self.is_alive = True
        self.is_stuck = False
        self.frames: list[bytes] = []
        self.buffered = 0
        self.delivery = Delivery(None)
        self.answers_probes = True
        self.is_released = self.is_aborted = False
        self._limit = limit
        self._on_abort = on_abort

    @property
    def is_left(self) -> bool:
        return not self.is_alive

    @property
    def is_done(self) -> bool:
        """Whether the close frame or the last of `limit` frames was written."""
        if not self.is_http or not self.frames:
            return False
        return self.frames[-1][:1] == b"c" or self.left == 0

    @property
    def left(self) -> float:
        """How many frames it still takes."""
        return math.inf if self._limit is None else self._limit - len(self.frames)

    @property
    def is_full(self) -> bool:
        return self.is_stuck or self.is_done

    def write(self, frame: bytes) -> None:
        assert not self.is_full and not self.is_released
        self.frames.append(frame)

    def flush(self) -> int:
        return self.buffered

    def send(self, frame: bytes) -> int:
        self.write(frame)
        return self.buffered

    def release(self) -> None:
        self.is_released = True

    def probe(self, busy: bool) -> bool:
        return self.answers_probes

    def conclude(self) -> None:
        self._limit = len(self.frames)

    def abort(self) -> None:
        self.is_aborted = True
        self.is_alive = False
        if self._on_abort is not None:
            self._on_abort()


class FakeInfo(ConnectionInfo):
    """About no request at all."""

    def __init__(self, ip: str = "127.0.0.1", transport: str = "xhr_streaming") -> None:
        self.ip = ip
        self.transport = transport
        self.protocol = None
        self.until = None
