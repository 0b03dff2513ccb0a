"""The contract between the gateway and the locators, which know where sessions are.

The gateway asks: it does not know whether the other processes are workers or nodes.  A locator
answers: it relays nothing itself.
"""

import enum
from typing import Protocol, TypeAlias

from aiohttp import web
from aiohttp.typedefs import Handler

from sockjs_aio.cluster.relay.peers import Peer
from sockjs_aio.cluster.relay.signed_header import Purpose
from sockjs_aio.server.service import Service


class OwnerUnknownError(Exception):
    """It is not known who owns a session, so its request gets 503 with this text."""


class Place(enum.Enum):
    """Where a request is answered, if no other process answers it."""

    HERE = enum.auto()
    """By this process: it has the session, or may open it."""
    NOWHERE = enum.auto()
    """By nobody: the session's owner has ended, and the session with it."""
    MISDIRECTED = enum.auto()
    """Not by this process, to which another one has relayed it; that one looks again."""


Found: TypeAlias = Place | Peer
"""The process that owns the session, or where the request is answered without one."""


class Search(Protocol):
    """The search for the owner of one request's session."""

    purpose: Purpose
    """What the process that was found last is asked to do with the request."""

    async def find(self) -> Found:
        """Return where the request is answered.

        Raises:
            OwnerUnknownError: If that cannot be found out now.
            ExhaustedError: If this process cannot open a connection to ask another one.
        """

    async def find_after(self, peer: Peer, error: Exception) -> Found:
        """Return where the request is answered, now that `peer` has not answered it.

        Call this until it returns no peer.

        Args:
            peer: What the last call of `find` or `find_after` has returned.
            error: One of `relay.PEER_FAILURES`.  The client has got nothing yet.

        Raises:
            OwnerUnknownError: As `find`.
        """

    async def answer_here(self, handler: Handler) -> web.StreamResponse:
        """Answer the request with `handler`; call this at once when a call returns `HERE`."""


class Locator(Protocol):
    """Knows which process owns which session."""

    @property
    def name(self) -> str:
        """The name of this process: see `SignedHeader.recipient`."""

    @property
    def state(self) -> str | None:
        """See `Relaying`."""

    def search(self, service: Service, request: web.Request, purpose: Purpose | None) -> Search:
        """Begin to search for the owner of a session that this process does not have.

        Args:
            service: The service that the request is for.
            request: The request; nothing refuses it before it reaches its transport.
            purpose: What another process wants that has relayed the request: `RELAY` or `ANSWER`;
                None if it comes from a client.
        """

    async def close(self) -> None:
        """Close the connections to other processes."""
