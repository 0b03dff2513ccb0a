"""What Redis's error replies mean: some refuse one command, others say that this server is no use.

A replica, a server that loads its data or wants a login refuses everything alike, for as long as
the connection lasts.  A new connection may lead to another server, behind a proxy or a host name,
so replies of that kind end the connection.  Both the broker and the nodes go by what stands here.
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
"""What connecting, writing and reading may raise."""

MEANINGS = {
    "LOGIN": "it refuses the login",
    "READONLY": "it is a replica",
    "MASTERDOWN": "it is a replica",
    "LOADING": "it is loading its data",
    "MOVED": "it belongs to a Redis Cluster",
    "ASK": "it belongs to a Redis Cluster",
    "CLUSTERDOWN": "it belongs to a Redis Cluster",
    "BUSY": "it is busy with a script",
    "NOAUTH": "it refuses the login",
}
"""The replies that end the connection; `LOGIN` stands for all that redis-py has one class for."""

# redis-py takes the code off the text of the errors that it knows
_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (AuthenticationError, "LOGIN"),
    (AuthenticationWrongNumberOfArgsError, "LOGIN"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (AskError, "MOVED"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
)

# at the beginning, behind what redis-py says of a pipeline, or inside of a script's error
_CODE = re.compile(rf"(?:^|: |-)({'|'.join(MEANINGS)})\b")

# redis-py puts this before an error, and the keys and values of the command into it
_PIPELINE = re.compile(r"^Command # \d+ .* of pipeline caused error: ", re.DOTALL)


async def read_reply(connection: AbstractConnection) -> Any:
    """Return a reply; if Redis refuses that command and nothing else, return the `ResponseError`.

    Raises:
        RedisError, OSError: If the connection is lost, or of no use.
    """
    try:
        return await connection.read_response()
    except ResponseError as error:
        if ends_connection(error):
            raise
        return error
    except (ValueError, IndexError):  # redis-py reads numbers without looking
        raise InvalidResponse("a reply that cannot be read") from None


def ends_connection(error: BaseException) -> bool:
    """Tell whether `error` is a reply that says that the server is of no use at present."""
    return _code(error) is not None


def reason(error: BaseException) -> str:
    """Say in a few words what has gone wrong."""
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
