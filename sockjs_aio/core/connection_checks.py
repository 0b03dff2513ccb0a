"""Checks of the connections that an application makes, and of their class."""

import functools
import inspect
import logging

from sockjs_aio.connection import SockJSConnection
from sockjs_aio.hook_names import HOOKS, is_coroutine_function

logger: logging.Logger = logging.getLogger("sockjs_aio.hooks")

_PARAMETERS = {
    "on_open": ("self", "info"),
    "on_message": ("self", "message"),
    "on_close": ("self",),
    "on_gap": ("self", "channel"),
}


def checked(connection: SockJSConnection, session: object) -> SockJSConnection:
    """Return `connection`, which the application made for `session`.

    Raises:
        TypeError: If it is not a `SockJSConnection`, or does not have `session`.
    """
    if not isinstance(connection, SockJSConnection):
        raise TypeError(f"{connection!r} is not a SockJSConnection: return one for each session")
    if getattr(connection, "session", None) is not session:
        name = type(connection).__name__
        raise TypeError(f"{name}.__init__ must call super().__init__(session)")
    return connection


def warn_of_wrong_hooks(connect: object) -> None:
    """Warn about hooks that cannot work, if `connect` is a class or a `partial` of one.

    Those are hooks without ``async``, and hooks that take other arguments.
    """
    cls = connect.func if isinstance(connect, functools.partial) else connect
    if not (isinstance(cls, type) and issubclass(cls, SockJSConnection)):
        return
    for hook in HOOKS:
        if not is_coroutine_function(getattr(cls, hook)):
            text = "%s.%s is a plain function: write async def %s (unless it returns an awaitable)"
            if inspect.isasyncgenfunction(getattr(cls, hook)):
                text = "%s.%s is a generator: write async def %s without yield"
            logger.warning(text, cls.__qualname__, hook, hook)
        elif (right := _right_parameters(cls, hook)) is not None:
            text = "%s.%s takes other arguments than it gets: write async def %s%s"
            logger.warning(text, cls.__qualname__, hook, hook, right)


def _right_parameters(cls: type[SockJSConnection], hook: str) -> str | None:
    """Return those that `hook` should have, or None if it can be called with them."""
    function = inspect.getattr_static(cls, hook)
    if not inspect.isfunction(function) or hasattr(function, "__wrapped__"):
        return None  # it may be called in any way
    names = list(_PARAMETERS[hook])
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        return f"({', '.join(names)})"
    return None


def has_coroutine_message(connection: SockJSConnection) -> bool:
    """Tell whether `on_message` is one; not if a property fails, as it will when it is called."""
    try:
        code = connection.on_message.__code__
    except Exception:
        return False
    return bool(code.co_flags & inspect.CO_COROUTINE)
