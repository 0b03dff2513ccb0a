"""The SockJS server for asyncio Python, on aiohttp."""

import importlib
from typing import TYPE_CHECKING

from sockjs_aio.brokers.base import Broker
from sockjs_aio.brokers.memory import MemoryBroker
from sockjs_aio.connection import Session, SockJSConnection, broadcast
from sockjs_aio.core.events import Observer
from sockjs_aio.errors import (
    BrokerUnavailableError,
    SettingsError,
    SockJSError,
    TooManyChannelsError,
)
from sockjs_aio.grant import Grant
from sockjs_aio.protocol.framing import PreparedMessage
from sockjs_aio.server.drain import Drain
from sockjs_aio.server.guard import guard
from sockjs_aio.server.health import healthz, readyz
from sockjs_aio.server.router import SockJSRouter
from sockjs_aio.server.run_app import run_app
from sockjs_aio.session_info import CloseInfo, ConnectionInfo
from sockjs_aio.settings import Settings
from sockjs_aio.stats import Stats
from sockjs_aio.version import __version__ as __version__

if TYPE_CHECKING:
    from sockjs_aio.cluster.nodes.nodes import Nodes
    from sockjs_aio.cluster.workers.workers import Workers

__all__ = [
    "Broker",
    "BrokerUnavailableError",
    "CloseInfo",
    "ConnectionInfo",
    "Drain",
    "Grant",
    "MemoryBroker",
    "Nodes",
    "Observer",
    "PreparedMessage",
    "Session",
    "Settings",
    "SettingsError",
    "SockJSConnection",
    "SockJSError",
    "SockJSRouter",
    "Stats",
    "TooManyChannelsError",
    "Workers",
    "broadcast",
    "guard",
    "healthz",
    "readyz",
    "run_app",
]

if not TYPE_CHECKING:  # type checkers must go on to report names that do not exist
    # One process on one host needs neither of these, and to import them takes as long as the rest.
    _LAZY = {
        "Nodes": "sockjs_aio.cluster.nodes.nodes",
        "Workers": "sockjs_aio.cluster.workers.workers",
    }

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
