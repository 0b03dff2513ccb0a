"""`Workers`: how many processes to run, and how; both the command and applications use it."""

import asyncio
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sockjs_aio.cluster.workers import logs
from sockjs_aio.cluster.workers.activation import take_sockets
from sockjs_aio.cluster.workers.app_loader import split
from sockjs_aio.cluster.workers.child import signals_held
from sockjs_aio.cluster.workers.listeners import Listeners
from sockjs_aio.cluster.workers.placement import new_key
from sockjs_aio.cluster.workers.service_manager import ServiceManager
from sockjs_aio.cluster.workers.socket_directory import socket_directory
from sockjs_aio.cluster.workers.supervisor import Supervisor
from sockjs_aio.cluster.workers.unix_socket import UNIX_MODE, UnixSocket
from sockjs_aio.cluster.workers.worker_config import WorkerConfig
from sockjs_aio.exit_status import replace_closed_streams
from sockjs_aio.server.drain import Drain
from sockjs_aio.server.run_app import check_no_loop

if TYPE_CHECKING:  # prometheus-client may not be installed
    from sockjs_aio.cluster.workers.metrics import MetricsPage

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

LOOPS = ("asyncio", "uvloop")

MIN_HANG_LIMIT = 2.0
"""A few beats: a process reports once in `BEAT` seconds that its event loop runs."""


@dataclass(frozen=True)
class Workers:
    """Several processes that serve one application on one port.

    Each session belongs to one worker, which a hash of its id determines.  A worker that gets a
    request for a session of another one hands the connection over or relays the request, so the
    load balancer does not need sticky sessions.  Workers do not run on Windows.

    Args:
        count: The number of processes.
        drain: How long each step of a shutdown takes, in seconds.
        access_log: Whether to log each request.
        hang_limit: Seconds after which a process whose event loop is blocked is killed and
            replaced; infinity for never.
        lingering_time: Seconds for which the server goes on reading a request's body that no
            handler wants.  Leave it at 0: a compressed body could block the event loop.
        keepalive_timeout: Seconds after which an idle connection is closed.
        metrics_port: The port at which the supervisor answers Prometheus for all workers; 0 for any
            free one, None for none.
        metrics_host: The address for that.
        loop: ``"asyncio"`` or ``"uvloop"``; None to use this process's event loop policy.
        log_level: The level from which the processes log to stderr.
        log_format: ``"text"``, or ``"json"`` for one JSON object per line.
        reload: Whether to reload the code when one of its files changes; for development.

    Raises:
        ValueError: If `count` or a time is too small, or a name is unknown.
        TypeError: If `drain` is not a `Drain`.
    """

    count: int
    drain: Drain = Drain()  # noqa: RUF009
    access_log: bool = False
    hang_limit: float = 30.0
    lingering_time: float = 0.0
    keepalive_timeout: float = 75.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    loop: str | None = None
    log_level: str = "info"
    log_format: str = "text"
    reload: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.count, int) and self.count >= 1):
            raise ValueError(f"Workers({self.count!r}): count must be a positive integer")
        if not isinstance(self.drain, Drain):
            raise TypeError(f"drain must be a Drain such as Drain(over=10), not {self.drain!r}")
        for name in ("lingering_time", "keepalive_timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be seconds, 0 or more")
        if not self.hang_limit >= MIN_HANG_LIMIT:
            raise ValueError(
                f"hang_limit={self.hang_limit!r} must be {MIN_HANG_LIMIT:g} seconds or more"
            )
        if self.metrics_port is not None:
            _check_metrics(self.metrics_port)
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
        unix_mode: int = UNIX_MODE,
        unix_owner: str | None = None,
        fd: Sequence[int] = (),
    ) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads the code, one process at a time.

        Args:
            target: ``"package.module:name"`` of an aiohttp application, or of a function or
                coroutine function that returns one.  Each process imports it.
            host: The address or addresses to listen at.  By default none if you pass `unix` or
                `fd`, or if systemd has passed sockets; otherwise ``"127.0.0.1"``.
            port: The port to listen at; 0 for any free one.
            unix: The path of a Unix socket to listen at.
            unix_mode: Its permissions.  Clients need write permission to connect.
            unix_owner: Its user and group as for ``chown``, such as ``"www-data"`` or ``":www"``.
            fd: File descriptors of sockets that are already open.

        Raises:
            SystemExit: With status 1, if the processes cannot be kept running, or one had to be
                killed during the shutdown.
            TargetError: If `target` does not have that form.
            OSError: If the server cannot listen at one of the addresses.
            ValueError: If an argument is not valid, or workers cannot use the event loop policy.
            RuntimeError: If an event loop is already running.
        """
        check_no_loop("Workers.run")
        split(target)
        fd = _with_passed(fd, is_enough=host is not None or unix is not None)
        default = () if unix is not None or fd else ("127.0.0.1",)
        hosts = default if host is None else [host] if isinstance(host, str) else host
        path = None if unix is None else UnixSocket(unix, unix_mode, unix_owner)
        policy = _policy(self.loop)
        replace_closed_streams()
        with (
            Listeners(self.count, hosts, port, unix=path, fds=fd) as listeners,
            signals_held(),  # while no supervisor handles them: the directory must be removed
            socket_directory() as directory,
        ):
            config = self._config(target, directory, policy)
            page = self._metrics_page()
            status = _run(Supervisor(config, listeners, ServiceManager(os.environ), page).run())
        if status:
            raise SystemExit(status)

    def _metrics_page(self) -> "MetricsPage | None":
        if self.metrics_port is None:
            return None
        from sockjs_aio.cluster.workers.metrics import MetricsPage

        try:
            listener = socket.create_server((self.metrics_host, self.metrics_port))
        except OSError as error:
            where = f"{self.metrics_host}:{self.metrics_port}"
            raise OSError(f"cannot answer for metrics at {where}: {error.strerror}") from None
        host, port = listener.getsockname()[:2]
        logger.info("metrics of all workers: http://%s:%d/metrics", host, port)
        return MetricsPage(listener)

    def _config(self, target: str, directory: str, policy: str) -> WorkerConfig:
        return WorkerConfig(
            target=target,
            number=0,
            count=self.count,
            directory=directory,
            key=new_key().hex(),
            listeners=[],
            replaces=False,
            inherits=None,
            drain=self.drain,
            hang_limit=self.hang_limit,
            lingering_time=self.lingering_time,
            keepalive_timeout=self.keepalive_timeout,
            access_log=self.access_log,
            policy=policy,
            metrics=self.metrics_port is not None,
            reports_sources=self.reload,
            log_level=self.log_level,
            log_format=self.log_format,
        )


def _run(main: Coroutine[Any, Any, int]) -> int:
    """Do what `asyncio.run` does, on asyncio's own event loop.

    What uvloop starts does not inherit which signals are blocked: see `Child.start`.
    """
    if sys.version_info >= (3, 14):  # policies are deprecated
        return asyncio.run(main, loop_factory=asyncio.SelectorEventLoop)
    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(None)
    try:
        return asyncio.run(main)
    finally:
        asyncio.set_event_loop_policy(policy)


def _with_passed(fd: Sequence[int], *, is_enough: bool) -> Sequence[int]:
    """Return `fd`, or the sockets that systemd has passed if there is no other address."""
    passed = take_sockets(os.environ)
    if not fd and not is_enough:
        return passed
    if set(passed) - set(fd):
        logger.warning(
            "the sockets that systemd has passed are not used: leave out host, unix and fd, or "
            "disable the socket unit"
        )
    return fd


def _check_metrics(port: object) -> None:
    if not (isinstance(port, int) and 0 <= port < 1 << 16):
        raise ValueError(f"metrics_port={port!r} must be a port, 0 to 65535")
    if importlib.util.find_spec("prometheus_client") is None:
        raise ValueError(
            "metrics_port needs prometheus-client: pip install 'sockjs-aio[prometheus]'"
        )


def _policy(loop: str | None) -> str:
    """Return `WorkerConfig.policy`.

    Raises:
        ValueError: If another process cannot import the event loop policy.
    """
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise ValueError("loop='uvloop' needs uvloop: pip install 'sockjs-aio[speedups]'")
    if loop is not None:
        return "uvloop:EventLoopPolicy" if loop == "uvloop" else ""
    kind = type(asyncio.get_event_loop_policy())
    package = kind.__module__.partition(".")[0]
    if package in LOOPS:
        return _policy(package)
    if "<" in kind.__qualname__ or kind.__module__ == "__main__":
        raise ValueError(
            f"workers cannot import the event loop policy {kind.__qualname__}: move its class to "
            "the top level of a module of its own"
        )
    return f"{kind.__module__}:{kind.__qualname__}"
