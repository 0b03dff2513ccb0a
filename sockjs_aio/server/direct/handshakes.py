"""Answers WebSocket handshakes without aiohttp, if nobody can tell the difference.

The first handshake of a service always goes to aiohttp.  It shows which application and service
its URL leads to, and whether anything of the application looks at requests.  From then on the
server has `FirstBytes` greet its connections.  In doubt, aiohttp answers: what is refused, what
`handshake_grammar` does not know, and what the application's own code has a say in.
"""

import asyncio
import secrets
from asyncio.tasks import _enter_task, _leave_task  # public: "Extending asyncio" in Python's docs
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web

from sockjs_aio.core.hook_task import HookTask
from sockjs_aio.core.process_exit import exit_soon
from sockjs_aio.core.websocket_session import InlineSession
from sockjs_aio.protocol.framing import RAW, SOCKJS
from sockjs_aio.server import aiohttp_internals, aiohttp_protocol
from sockjs_aio.server.direct.conditions import MAX_PREFIXES, may_open
from sockjs_aio.server.direct.first_bytes import FirstBytes
from sockjs_aio.server.direct.grammar import read_path
from sockjs_aio.server.direct.handshake_grammar import Handshake, read_handshake
from sockjs_aio.server.responses import switched
from sockjs_aio.server.service import Service
from sockjs_aio.server.websocket_handshake import accepted
from sockjs_aio.server.websocket_start import new_connection, new_writer
from sockjs_aio.session_info import ConnectionInfo

_NO_COOKIES: Mapping[str, str] = MappingProxyType({})


class Door(NamedTuple):
    """A service whose handshakes need no aiohttp."""

    service: Service
    app: web.Application
    """The one whose router leads to the service."""
    access_log: aiohttp_protocol.AccessLog | None

    def is_open(self, handshake: Handshake, ip: str | None) -> bool:
        """Tell whether this handshake needs no aiohttp either."""
        service, fields = self.service, handshake.fields
        return (
            service.relay is None
            and not (self.access_log is not None and self.access_log.enabled)
            and not (
                service.settings.websocket_compression and "sec-websocket-extensions" in fields
            )
            and service.admission.admits(fields.get("origin"), ip)
        )


class Doors:
    """The services of one server whose handshakes need no aiohttp."""

    __slots__ = ("is_needed", "_sessions", "_raw", "_counts")

    def __init__(self) -> None:
        self.is_needed: bool = False
        # by prefix, for the URLs of sessions and that of raw WebSockets; None: aiohttp is needed
        self._sessions: dict[str, Door | None] = {}
        self._raw: dict[str, Door | None] = {}
        # prefixes of each service there; the prefixes of one must not keep others out
        self._counts: Counter[tuple[Service, bool]] = Counter()

    def greet(self, server: aiohttp_protocol.Server) -> FirstBytes:
        """Make the protocol of a new connection."""
        return FirstBytes(server, server.make_handler, self.answer)

    def learn(self, service: Service, request: web.Request) -> None:
        """Find out whether later handshakes like `request` need aiohttp."""
        handler = aiohttp_protocol.handler_of(request)
        path = aiohttp_protocol.path_of(handler)
        is_of_session = "session_id" in request.match_info
        known = self._sessions if is_of_session else self._raw
        if is_of_session:
            target = read_path(path)
            prefix = None if target is None else target.prefix
        else:
            prefix = path.removesuffix("/websocket")
        # a client may write one path in any number of ways, of which only one is kept
        if prefix is None or prefix in known or request.path != path:
            return
        if self._counts[service, is_of_session] >= MAX_PREFIXES:
            return
        self._counts[service, is_of_session] += 1
        is_open = may_open(service, request, prefix)
        log = aiohttp_protocol.access_log_of(handler)
        known[prefix] = Door(service, request.app, log) if is_open else None
        self.is_needed = self.is_needed or is_open

    def answer(self, first: FirstBytes, data: bytes) -> bool:
        """Answer the handshake that `data` begins with; return False if aiohttp is needed."""
        handshake = read_handshake(data)
        if handshake is None:
            return False
        door = self._raw.get(handshake.raw_prefix)
        session_id = None
        if door is None and (target := handshake.session) is not None:
            prefix, session_id = target
            door = self._sessions.get(prefix)
        ip = aiohttp_internals.remote_of(first.transport)
        if door is None or not door.is_open(handshake, ip):
            return False
        _open(first, door, handshake, session_id, ip, data)
        return True


def open_door(service: Service, request: web.Request) -> None:
    """Have later handshakes like `request`, which aiohttp has served, answered without it.

    Call this in the handler of the request.
    """
    server = aiohttp_internals.server_of(request)
    if type(server) is not aiohttp_protocol.Server or service.relay is not None:
        return
    if aiohttp_protocol.logs_access(aiohttp_protocol.handler_of(request)):
        return
    if server.greeter is None:
        server.greeter = Doors()
    if type(server.greeter) is Doors:
        server.greeter.learn(service, request)


def _open(
    first: FirstBytes,
    door: Door,
    handshake: Handshake,
    session_id: str | None,
    ip: str | None,
    data: bytes,
) -> None:
    framing = RAW if session_id is None else SOCKJS
    worker = HookTask()
    try:
        session = _open_session(worker, door, handshake, session_id, ip)
    except (KeyboardInterrupt, SystemExit) as error:
        worker.end()
        first.close()
        exit_soon(error)
        return
    except BaseException as error:
        worker.end()
        first.fail(error, data)
        return
    session.hooks.take(worker)
    # aiohttp would also turn on TCP's keep-alive probes, which come two hours after our pings
    transport, server = first.transport, first.server
    writer = new_writer(door.service, transport, session, framing, None)
    session.attach(writer)
    connection = new_connection(door.service, transport, session, writer, None)
    connection.server = server
    server.connection_made(connection, transport)  # type: ignore[arg-type]
    server.requests_count += 1
    first.give_to(connection)
    writer.open(switched(accepted(handshake.key)))
    connection.begin(data[handshake.size :])


def _open_session(
    worker: HookTask, door: Door, handshake: Handshake, session_id: str | None, ip: str | None
) -> InlineSession:
    fields = handshake.fields
    info = ConnectionInfo.of_head(
        ip=ip,
        transport="rawwebsocket" if session_id is None else "websocket",
        path=handshake.path,
        query=handshake.query,
        headers=handshake.headers,
        cookies=aiohttp_internals.cookies_in({"Cookie": fields["cookie"]})
        if "cookie" in fields
        else _NO_COOKIES,
        app=door.app,
    )
    framing = RAW if session_id is None else SOCKJS
    # the application's constructor expects a current task, as hooks do; `on_open` then runs in the
    # name of the same task
    _enter_task(loop := asyncio.get_running_loop(), worker.task)
    try:
        registry = door.service.registry
        return registry.open_inline(session_id or secrets.token_hex(4), info, framing)
    finally:
        _leave_task(loop, worker.task)
