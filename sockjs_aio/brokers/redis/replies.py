"""What Redis's error replies mean: one command is refused, or the whole server is unusable.

A replica, a server that is loading its data, or one that requires a login refuses all commands on a
connection.  Behind a proxy or a host name, a new connection may lead to another server, so such a
reply ends the connection.  The broker and the nodes both use this module.
"""

import asyncio
import re
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

FAILURES = (RedisError, OSError, asyncio.TimeoutError)
"""The exceptions that connecting, writing and reading may raise."""

REPLICA = "it is a replica; unless a failover is under way, use a URL that leads to the primary"
CLUSTER = "it belongs to a Redis Cluster, which does not work; use a single primary, or Sentinel"

MEANINGS = {
    "LOGIN": "it refuses the login",
    "READONLY": REPLICA,
    "MASTERDOWN": REPLICA,
    "LOADING": "it is loading its data",
    "MOVED": CLUSTER,
    "ASK": CLUSTER,
    "CLUSTERDOWN": CLUSTER,
    "BUSY": "it is busy with a script",
    "NOAUTH": "it refuses the login",
}
"""The replies that end the connection.  `LOGIN` means all codes for which redis-py raises
`AuthenticationError`."""

# redis-py removes the code from the text of the errors that it knows
_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (AuthenticationError, "LOGIN"),
    (AuthenticationWrongNumberOfArgsError, "LOGIN"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (AskError, "MOVED"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
)

# the code is at the beginning, after redis-py's text about a pipeline, or inside a script's error
_CODE = re.compile(rf"(?:^|: |-)({'|'.join(MEANINGS)})\b")

# redis-py puts this before the error of a pipeline, with the command's keys and values
_PIPELINE = re.compile(r"^Command # \d+ .* of pipeline caused error: ", re.DOTALL)


async def read_reply(connection: AbstractConnection) -> Any:
    """Return a reply; if Redis refuses only this command, return the `ResponseError`.

    Raises:
        RedisError, OSError: If the connection is lost or the server is unusable.
    """
    try:
        return await connection.read_response()
    except ResponseError as error:
        if ends_connection(error):
            raise
        return error
    except (ValueError, IndexError):  # redis-py does not check numbers
        raise InvalidResponse("a reply that cannot be read") from None


def ends_connection(error: BaseException) -> bool:
    """Tell whether `error` is a reply which means that the server is unusable at present."""
    return _code(error) is not None


def reason(error: BaseException) -> str:
    """Return a short text about what went wrong."""
    if isinstance(error, (asyncio.TimeoutError, RedisTimeoutError)):
        return "no answer in time"
    text, is_pipeline = _PIPELINE.subn("", str(error))
    text = (text.strip("(),'\"") if is_pipeline else text).rstrip(" .;") or type(error).__name__
    code = _code(error)
    return text if code is None else f"{MEANINGS[code]} ({text})"


def _code(error: BaseException) -> str | None:
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    match = _CODE.search(str(error)) if isinstance(error, ResponseError) else None
    return match[1] if match else None
