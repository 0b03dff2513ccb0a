"""The log of the command and its workers, which goes to stderr."""

import datetime
import json
import logging
import sys
import threading

from aiohttp import web
from aiohttp.web_log import AccessLogger

from sockjs_aio.cluster.relay.signed_header import RELAYED

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

LEVELS = ("debug", "info", "warning", "error", "critical")
FORMATS = ("text", "json")


def set_up(level: str, form: str) -> None:
    """Log to stderr."""
    handler = logging.StreamHandler()
    if form == "json":
        handler.setFormatter(JsonFormatter())
        _log_what_python_prints()
    else:
        handler.setFormatter(
            logging.Formatter("%(asctime)s [%(process)d] %(name)s %(levelname)s %(message)s")
        )
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _log_what_python_prints() -> None:
    """Log warnings, and exceptions in threads and finalizers: Python prints them as plain text."""
    logging.captureWarnings(True)
    threading.excepthook = _log_failed_thread
    sys.unraisablehook = _log_unraisable


def _log_failed_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or args.exc_type is SystemExit:  # as Python's own hook
        return
    name = "a thread" if args.thread is None else f"thread {args.thread.name}"
    logger.error("%s failed", name, exc_info=args.exc_value)


def _log_unraisable(args: "sys.UnraisableHookArgs") -> None:
    what = args.err_msg or "Exception ignored in"
    logger.error("%s: %r", what, args.object, exc_info=args.exc_value)


_STANDARD = {*vars(logging.makeLogRecord({})), "asctime", "message", "taskName"}
"""The attributes of a record that has no ``extra`` fields."""


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON, with its ``extra`` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        fields: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        fields |= {
            name: x for name, x in vars(record).items() if name not in _STANDARD | set(fields)
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps(fields, default=str)


class EntryLogger(AccessLogger):
    """Logs each request once, at the worker that got it from the client."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request unless it was relayed here."""
        if not request.get(RELAYED):
            super().log(request, response, time)
