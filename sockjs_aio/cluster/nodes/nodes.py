"""`Nodes`: several processes serve one SockJS service, on one host or on many.

Needs redis-py: ``pip install 'sockjs-aio[redis]'``.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import async_timeout
from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.brokers.base import State
from sockjs_aio.brokers.checks import check_delay
from sockjs_aio.cancellations import end
from sockjs_aio.cluster.nodes.node_record import RecordMaker, read_secret
from sockjs_aio.cluster.nodes.owners import check_url
from sockjs_aio.cluster.relay.gateway import Gateway, serving
from sockjs_aio.cluster.relay.relay import Relay
from sockjs_aio.errors import SettingsError
from sockjs_aio.server.aiohttp_internals import has_started
from sockjs_aio.server.guard import guard

if TYPE_CHECKING:
    from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
    from sockjs_aio.cluster.nodes.directory import Directory
    from sockjs_aio.cluster.nodes.locator import NodeLocator

LOOKS = 5
"""How many times a node reports to Redis within `expiry`."""

RELEASE_LIMIT = 5.0
"""Seconds within which, at a shutdown, relayed requests end so that clients go elsewhere."""


@dataclass(frozen=True)
class _Work:
    """What exists only while the application runs."""

    directory: "Directory"
    locator: "NodeLocator"
    relay: Relay
    gateway: Gateway
    keeper: "ClaimKeeper"
    task: "asyncio.Task[None]"


class Nodes:
    """Relays requests to the node that has their session.

    Call ``Nodes("redis://...", url="http://10.0.0.5:8080", secret="...").attach(app)``, before or
    after you attach the routers, in each process that serves the application.

    Args:
        redis: The URL of the Redis in which nodes record their sessions, as redis-py takes it:
            ``redis://:password@host:6379``, ``rediss://`` for TLS or ``unix:///path``; or with
            Sentinel: ``redis+sentinel://host:26379,host:26379/service``.
        url: The scheme, host and port where other nodes reach this process and no other one.
        secret: At least 16 bytes, the same for all nodes, and known to nobody else.
        namespace: The prefix of all keys in Redis; each application needs its own.
        expiry: Seconds after which a node that has stopped reporting to Redis is considered dead,
            with all its sessions; the same for all nodes.
        lease: Seconds after which Redis forgets the sessions of a dead node.
        timeout: Seconds within which Redis must answer, and other nodes must be reached; at most
            `expiry`.

    Raises:
        SettingsError: If an argument is not valid.
        ModuleNotFoundError: If redis-py is not installed.
    """

    def __init__(
        self,
        redis: str,
        *,
        url: str,
        secret: str | bytes,
        namespace: str = "sockjs:",
        expiry: float = 5,
        lease: float = 60,
        timeout: float = 1,
    ) -> None:
        for name, value in (("expiry", expiry), ("lease", lease), ("timeout", timeout)):
            check_delay(name, value)
        if lease <= expiry:
            raise SettingsError(f"lease={lease!r} must be longer than expiry={expiry!r}")
        if timeout > expiry:
            raise SettingsError(
                f"timeout={timeout!r} must not be longer than expiry={expiry!r}: while this node "
                "waited for a lost answer of Redis, the others would consider it dead"
            )
        if not isinstance(namespace, str) or not namespace.isascii() or not namespace.isprintable():
            raise SettingsError(f"namespace={namespace!r} must be printable ASCII text")
        try:
            self.url: str = check_url(url)
        except ValueError as error:
            raise SettingsError(f"url={url!r} is not valid: {error}") from None
        try:
            self._key = read_secret(secret)
        except (ValueError, TypeError) as error:
            raise SettingsError(str(error)) from None
        self._redis = redis
        self._namespace = namespace
        self._expiry = expiry
        self._lease = lease
        self._timeout = timeout
        self._is_attached = False
        self._work: _Work | None = None
        self._directory(secrets.token_hex(8))  # check the arguments now

    def attach(self, app: web.Application) -> None:
        """Insert a middleware before all others of `app`, and start and stop with it.

        Raises:
            RuntimeError: If `app` has started or has `Nodes`, or this is already attached.
        """
        if has_started(app):
            raise RuntimeError("attach Nodes before the application starts")
        if self._is_attached or NODES in app:
            raise RuntimeError("attach each Nodes once; an application can have only one")
        self._is_attached = True
        app[NODES] = self
        guard(app)
        app.middlewares.insert(0, self._middleware)
        app.on_startup.append(self._start)
        app.on_shutdown.append(self._release)
        app.on_cleanup.append(self._stop)

    @property
    def state(self) -> State:
        """``"stopped"``, ``"connecting"`` at first, then ``"connected"`` or ``"reconnecting"``."""
        return self._work.directory.state if self._work else "stopped"

    @property
    def relayed(self) -> int:
        """How many requests this node has relayed to other nodes."""
        return self._work.relay.exchanges.count if self._work else 0

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._work is None:
            return await handler(request)
        keeper = self._work.keeper
        if not keeper.is_sure and serving(request) is not None:
            await keeper.assure()
        return await self._work.gateway.middleware(request, handler)

    def _directory(self, own: str) -> "Directory":
        try:
            from sockjs_aio.cluster.nodes.directory import Directory
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Nodes needs redis-py: pip install 'sockjs-aio[redis]'"
            ) from error
        try:
            return Directory(
                self._redis,
                own=own,
                record=RecordMaker(self._key, own, self.url),
                namespace=self._namespace,
                lease=self._lease,
                expiry=self._expiry,
                timeout=self._timeout,
            )
        except ValueError as error:
            raise SettingsError(f"the Redis URL is not valid: {error}") from None

    async def _start(self, app: web.Application) -> None:
        from sockjs_aio.cluster.nodes.claim_keeper import ClaimKeeper
        from sockjs_aio.cluster.nodes.connector import silence_limit
        from sockjs_aio.cluster.nodes.locator import NodeLocator
        from sockjs_aio.cluster.nodes.redis_access import DirectoryUnavailableError

        directory = self._directory(secrets.token_hex(8))  # a new name at each start
        relay = Relay(self._key, spans_hosts=True)
        locator = NodeLocator(
            directory,
            self._key,
            timeout=self._timeout,
            silence=silence_limit(self._expiry),
            expiry=self._expiry,
        )
        keeper = ClaimKeeper(
            directory,
            locator,
            relay.cut,
            interval=self._expiry / LOOKS,
            expiry=self._expiry,
            refresh_after=self._lease / 3,
        )
        with contextlib.suppress(DirectoryUnavailableError):
            await keeper.look()
        gateway = Gateway(locator, relay)
        await gateway.join(app)
        task = asyncio.get_running_loop().create_task(keeper.run())
        self._work = _Work(directory, locator, relay, gateway, keeper, task)

    async def _release(self, _app: web.Application) -> None:
        """End relayed requests, so that their clients go elsewhere before this process ends."""
        if self._work is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                async with async_timeout.timeout(RELEASE_LIMIT):
                    self._work.relay.is_retiring = True
                    await self._work.relay.exchanges.end()

    async def _stop(self, _app: web.Application) -> None:
        work, self._work = self._work, None
        if work is not None:
            await end(work.task)
            await work.keeper.leave()
            await work.gateway.close()
            await work.directory.close()


NODES = web.AppKey("sockjs_aio.Nodes", Nodes)
