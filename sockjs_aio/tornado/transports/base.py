"""The part of a transport handler that sessions use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sockjs_aio.tornado.session import ConnectionInfo


class BaseTransportMixin:
    """Base class for the handler of your own sessions, as in multiplexing code."""

    name = "override_me_please"
    """The transport's name in the statistics."""

    active = True

    def get_conn_info(self) -> "ConnectionInfo":
        """Return the argument of `on_open`."""
        raise NotImplementedError

    def session_closed(self) -> None:
        """Called when the session has been closed."""
