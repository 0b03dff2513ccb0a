"""For handlers written for aio-libs' sockjs 0.13: its names, served by this package.

An application changes its import and no more::

    from sockjs_aio.aiolibs import MsgType, add_endpoint, get_manager

Nothing here speaks the protocol: a `SessionManager` makes a connection for each session of a
`SockJSRouter`, and the connection turns hooks into messages for the handler.  What differs from
sockjs 0.13 is in docs/migrating-from-aiolibs-sockjs.md.
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
