"""What the supervisor tells a worker at its start."""

import json
from dataclasses import asdict, dataclass

from sockjs_aio.server.drain import Drain


@dataclass(frozen=True)
class WorkerConfig:
    """Everything a worker needs to know; sent to it as one line of JSON."""

    target: str
    """``package.module:name`` of an application or of a function that returns one."""
    number: int
    count: int
    directory: str
    """The directory of the workers' sockets."""
    key: str
    """The key that places sessions and signs headers, in hexadecimal digits."""
    listeners: list[int]
    """The file descriptors of the sockets that clients connect to."""
    replaces: bool
    """Whether it succeeds a worker of the same number, which still runs for a while."""
    inherits: int | None
    """The process id of a worker of the same number that still runs for a while, although the one
    that succeeded it has died."""
    drain: Drain
    hang_limit: float
    """Seconds for which its event loop may be blocked."""
    lingering_time: float
    keepalive_timeout: float
    access_log: bool
    policy: str
    """``module:name`` of the event loop policy's class; empty for asyncio's own."""
    metrics: bool
    """Whether it measures its services, for the supervisor to report."""
    reports_sources: bool
    """Whether it tells where its modules are, for the supervisor to watch them."""
    log_level: str
    log_format: str

    def encode(self) -> bytes:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "WorkerConfig":
        """Read it from a line of JSON."""
        values = json.loads(line)
        return cls(**{**values, "drain": Drain(**values["drain"])})
