"""The log: the observer that every router has."""

import logging
import re

from sockjs_aio.connection import Session
from sockjs_aio.core.events import Observer, Reason
from sockjs_aio.session_info import CloseInfo

sessions: logging.Logger = logging.getLogger("sockjs_aio.session")
hooks: logging.Logger = logging.getLogger("sockjs_aio.hooks")
transports: logging.Logger = logging.getLogger("sockjs_aio.transports")

_PLAIN = "send, broadcast, close, unsubscribe and extend"
_NOT_A_COROUTINE = re.compile("a coroutine was expected, got (None|True|False)")


class Log(Observer):
    """Writes a line when a session has closed, when a hook fails, and, for debugging, more."""

    def opened(self, session: Session) -> None:
        """See `Observer`."""
        sessions.debug("session %s: opened from %s", session, session.info.ip)

    def closed(self, session: Session, info: CloseInfo) -> None:
        """Log how the session ended, in words and as fields of the record."""
        level = logging.WARNING if info.initiator == "overflow" else logging.INFO
        if not sessions.isEnabledFor(level):  # most servers do not want this line
            return
        fields = {
            "transport": info.transport,
            "close_status": info.status,
            "close_code": info.code,
            "close_reason": info.reason,
            "close_initiator": info.initiator,
            "session_seconds": round(info.seconds, 3),
        }
        sessions.log(level, "session %s: closed (%s)", session, info, extra=fields)

    def refused(self, reason: Reason, transport: str, ip: str | None) -> None:
        """See `Observer`."""
        transports.debug("refused a request to %s from %s: %s", transport, ip, reason)

    def hook_failed(self, session: Session, hook: str, error: BaseException) -> None:
        """See `Observer`."""
        if session.is_cut_off:
            hooks.warning("session %s: %s took too long and was cancelled", session, hook)
        else:
            hooks.error("session %s: %s failed%s", session, hook, _hint(error), exc_info=error)


def _hint(error: BaseException) -> str:
    """Explain the most common mistake, because Python's own message does not."""
    text = str(error) if isinstance(error, TypeError) else ""
    # the words differ between Python versions; sockjs_aio.aiolibs' `send` returns a bool
    is_awaited = "await" in text and ("NoneType" in text or "bool" in text)
    if is_awaited or _NOT_A_COROUTINE.fullmatch(text):
        return f": {_PLAIN} are plain functions, do not await them"
    return ""
