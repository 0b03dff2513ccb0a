"""The part of a transport handler that a session deals with."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockjs_aio.tornado.session import ConnectionInfo


class BaseTransportMixin:
    """Derive from it to give a session of your own a handler (as multiplexing code does)."""

    name = "override_me_please"
    """The transport's name, for statistics."""

    active = True

    def get_conn_info(self) -> "ConnectionInfo":
        """Return what `on_open` gets."""
        raise NotImplementedError

    def session_closed(self) -> None:
        """The session has been closed."""
