"""Runs handlers written for aio-libs' sockjs 0.13.

In your application, you only change the import::

    from sockjs_aio.aiolibs import MsgType, add_endpoint, get_manager

This adapter uses the public interface only: a `SessionManager` makes a connection for each session
of a `SockJSRouter`, and the connection turns hooks into messages for your handler.
docs/migrating-from-aiolibs-sockjs.md lists the differences from sockjs 0.13.
"""

from sockjs_aio.aiolibs.endpoint import CDN, add_endpoint, get_manager
from sockjs_aio.aiolibs.manager import SessionManager
from sockjs_aio.aiolibs.messages import (
    MsgType,
    SessionIsAcquired,
    SessionIsClosed,
    SessionState,
    SockjsMessage,
)
from sockjs_aio.aiolibs.request import Request
from sockjs_aio.aiolibs.session import Session

__all__ = [
    "CDN",
    "MsgType",
    "Request",
    "Session",
    "SessionIsAcquired",
    "SessionIsClosed",
    "SessionManager",
    "SessionState",
    "SockjsMessage",
    "add_endpoint",
    "get_manager",
]
