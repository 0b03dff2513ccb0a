"""What a supervisor tells a worker when it starts it."""

import json
from dataclasses import asdict, dataclass

from sockjs_aio.server.drain import Drain


@dataclass(frozen=True)
class WorkerConfig:
    """All that a worker has to know; goes to it as one line of JSON."""

    target: str
    """``package.module:name`` of an application or of what returns one."""
    number: int
    count: int
    directory: str
    """Where the workers' sockets are."""
    key: str
    """Of the placement of sessions, and of signer; in hexadecimal digits."""
    listeners: list[int]
    """The file descriptors of the sockets for clients."""
    replaces: bool
    """Whether there is a worker of the same number that goes on for a while."""
    drain: Drain
    hang_limit: float
    """Seconds for which its event loop may be held up."""
    lingering_time: float
    keepalive_timeout: float
    access_log: bool
    policy: str
    """``module:name`` of the class of the event loop policy; empty for asyncio's own."""
    log_level: str
    log_format: str

    def encode(self) -> bytes:
        """Return the line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> "WorkerConfig":
        """Read a line."""
        values = json.loads(line)
        return cls(**{**values, "drain": Drain(**values["drain"])})
