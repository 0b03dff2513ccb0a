"""What an application or the command asks for: so many workers, with these limits."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass

from sockjs_aio.running import Drain, check_no_loop
from sockjs_aio.workers.listeners import Listeners
from sockjs_aio.workers.order import Order
from sockjs_aio.workers.places import new_key
from sockjs_aio.workers.supervisor import Supervisor
from sockjs_aio.workers.target import split

MIN_HANG_LIMIT = 2.0
"""Some of the beats by which a process says that its event loop runs."""


@dataclass(frozen=True)
class Workers:
    """Several processes that serve one application on one port.

    A session belongs to the worker that its id hashes to; a request that comes in at another one is
    handed on, whatever the load balancer does.  Not on Windows.

    Args:
        count: How many processes.
        notice: Seconds for load balancers to notice the end, before sessions are closed.
        over: Seconds over which the sessions of a process are closed.
        limit: Seconds after which a process ends, whoever is left.
        access_log: Whether requests are logged.
        hang_limit: Seconds after which a process whose event loop is held up is killed and
            replaced; infinity for never.
        lingering_time: Seconds for which the rest of a body is read that nobody has asked for.
            While a compressed one is unpacked, everybody waits: leave it at 0.
        keepalive_timeout: Seconds after which a connection without a request is closed.

    Raises:
        ValueError: If there is less than one, or a time is below 0.
    """

    count: int
    notice: float = Drain.notice
    over: float = Drain.over
    limit: float = Drain.limit
    access_log: bool = False
    hang_limit: float = 30.0
    lingering_time: float = 0.0
    keepalive_timeout: float = 75.0

    def __post_init__(self) -> None:
        if not (isinstance(self.count, int) and self.count >= 1):
            raise ValueError(f"Workers({self.count!r}) cannot be: a whole number above 0")
        Drain(self.notice, self.over, self.limit)
        for name in ("lingering_time", "keepalive_timeout"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)!r} must be seconds, 0 or above")
        if not self.hang_limit >= MIN_HANG_LIMIT:
            raise ValueError(
                f"hang_limit={self.hang_limit!r} must be {MIN_HANG_LIMIT:g} seconds or above"
            )

    def run(self, target: str, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reloads the code, one process at a time.

        Args:
            target: ``"package.module:name"`` of an aiohttp application, or of a function, plain or
                not, that returns one; each process imports it.
            host: Address to listen at.
            port: Port to listen at; 0 for any.

        Raises:
            SystemExit: With status 1, if the processes cannot be kept running, or one had to be
                killed at the end.
            TargetError: If `target` has another form.
            OSError: If the address cannot be listened at.
            ValueError: If `port` is none.
            RuntimeError: If it is called while an event loop runs.
        """
        check_no_loop("Workers.run")
        split(target)
        directory = tempfile.mkdtemp(prefix="sockjs-aio-")  # for this user alone
        try:
            with Listeners(host, port, self.count) as listeners:
                order = self._order(target, directory)
                status = asyncio.run(Supervisor(order, listeners).run())
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if status:
            raise SystemExit(status)

    def _order(self, target: str, directory: str) -> Order:
        return Order(
            target=target,
            number=0,
            count=self.count,
            directory=directory,
            key=new_key().hex(),
            listeners=[],
            replaces=False,
            notice=self.notice,
            over=self.over,
            limit=self.limit,
            hang_limit=self.hang_limit,
            lingering_time=self.lingering_time,
            keepalive_timeout=self.keepalive_timeout,
            access_log=self.access_log,
        )
