"""What an application or the command asks for: so many workers, with these limits."""

import asyncio
import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from sockjs_aio.cluster.workers import logs
from sockjs_aio.cluster.workers.app_loader import split
from sockjs_aio.cluster.workers.listeners import Listeners
from sockjs_aio.cluster.workers.placement import make_directory, new_key
from sockjs_aio.cluster.workers.supervisor import Supervisor
from sockjs_aio.cluster.workers.worker_config import WorkerConfig
from sockjs_aio.server.drain import Drain
from sockjs_aio.server.run_app import check_no_loop

LOOPS = ("asyncio", "uvloop")

MIN_HANG_LIMIT = 2.0
"""Some of the beats by which a process says that its event loop runs."""


@dataclass(frozen=True)
class Workers:
    """Several processes that serve one application on one port.

    A session belongs to the worker that its id hashes to; a request that comes in at another one is
    handed on, whatever the load balancer does.  Not on Windows.

    Args:
        count: How many processes.
        drain: How long each process waits for what at its end, in seconds.
        access_log: Whether requests are logged.
        hang_limit: Seconds after which a process whose event loop is held up is killed and
            replaced; infinity for never.
        lingering_time: Seconds for which the rest of a body is read that nobody has asked for.
            While a compressed one is unpacked, everybody waits: leave it at 0.
        keepalive_timeout: Seconds after which a connection without a request is closed.
        loop: ``"asyncio"`` or ``"uvloop"``; what the event loop policy of this process gives, if
            it is None.
        log_level: From which level on the processes log, to stderr.
        log_format: ``"text"``, or ``"json"`` for one JSON object in a line.

    Raises:
        ValueError: If there is less than one, a time is below 0, or a name is unknown.
        TypeError: If `drain` is not a `Drain`.
    """

    count: int
    drain: Drain = Drain()  # noqa: RUF009
    access_log: bool = False
    hang_limit: float = 30.0
    lingering_time: float = 0.0
    keepalive_timeout: float = 75.0
    loop: str | None = None
    log_level: str = "info"
    log_format: str = "text"

    def __post_init__(self) -> None:
        if not (isinstance(self.count, int) and self.count >= 1):
            raise ValueError(f"Workers({self.count!r}) is impossible: give a whole number above 0")
        if not isinstance(self.drain, Drain):
            raise TypeError(f"drain must be a Drain such as Drain(over=10), not {self.drain!r}")
        for name in ("lingering_time", "keepalive_timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be seconds, 0 or above")
        if not self.hang_limit >= MIN_HANG_LIMIT:
            raise ValueError(
                f"hang_limit={self.hang_limit!r} must be {MIN_HANG_LIMIT:g} seconds or above"
            )
        for name, choices in (
            ("loop", (None, *LOOPS)),
            ("log_level", logs.LEVELS),
            ("log_format", logs.FORMATS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} must be one of {choices}")

    def run(
        self,
        target: str,
        *,
        host: str | Sequence[str] | None = None,
        port: int = 8080,
        unix: str | None = None,
        fd: Sequence[int] = (),
    ) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads the code, one process at a time.

        Args:
            target: ``"package.module:name"`` of an aiohttp application, or of a function, plain or
                not, that returns one; each process imports it.
            host: Address or addresses to listen at; ``"127.0.0.1"`` unless there is `unix` or `fd`.
            port: Port to listen at; 0 for any.
            unix: Path of a Unix socket to listen at.
            fd: File descriptors of sockets that are open already, as systemd passes them.

        Raises:
            SystemExit: With status 1, if the processes cannot be kept running, or one had to be
                killed at the end.
            TargetError: If `target` has another form.
            OSError: If one of the addresses cannot be listened at.
            ValueError: If `port` is none, or the event loop policy cannot be that of workers.
            RuntimeError: If it is called while an event loop runs.
        """
        check_no_loop("Workers.run")
        split(target)
        hosts = [host] if isinstance(host, str) else host
        if hosts is None:
            hosts = [] if unix is not None or fd else ["127.0.0.1"]
        policy = _policy(self.loop)
        directory = make_directory()
        try:
            with Listeners(self.count, hosts, port, unix=unix, fds=fd) as listeners:
                config = self._config(target, directory, policy)
                status = asyncio.run(Supervisor(config, listeners).run())
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if status:
            raise SystemExit(status)

    def _config(self, target: str, directory: str, policy: str) -> WorkerConfig:
        return WorkerConfig(
            target=target,
            number=0,
            count=self.count,
            directory=directory,
            key=new_key().hex(),
            listeners=[],
            replaces=False,
            drain=self.drain,
            hang_limit=self.hang_limit,
            lingering_time=self.lingering_time,
            keepalive_timeout=self.keepalive_timeout,
            access_log=self.access_log,
            policy=policy,
            log_level=self.log_level,
            log_format=self.log_format,
        )


def _policy(loop: str | None) -> str:
    """Return the class of the event loop policy for workers, as `WorkerConfig` has it.

    Raises:
        ValueError: If it cannot be made in another process.
    """
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ValueError("loop='uvloop' needs that: pip install sockjs-aio[speedups]")
    if loop is not None:
        return "uvloop:EventLoopPolicy" if loop == "uvloop" else ""
    kind = type(asyncio.get_event_loop_policy())
    package = kind.__module__.partition(".")[0]
    if package in LOOPS:
        return _policy(package)
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise ValueError(
            f"the event loop policy {kind.__qualname__} cannot be that of workers, which import "
            "it: put its class into a module of its own"
        )
    return f"{kind.__module__}:{kind.__qualname__}"
