"""The `callback` parameter of jsonp and htmlfile: the name of a function in the page."""

import re

from aiohttp import web

from sockjs_aio.errors import CallbackError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")


def read_callback(request: web.Request) -> bytes:
    """Return the value of the parameter ``c`` or ``callback``.

    Raises:
        CallbackError: If it is missing, longer than 128 characters, or contains characters other
            than letters, digits, ``_``, ``.`` and ``-``.
    """
    query = request.query
    callback = query.get("c") or query.get("callback")
    if not callback:
        raise CallbackError('"callback" parameter required')
    if _NAME.fullmatch(callback) is None:
        raise CallbackError('invalid "callback" parameter')
    return callback.encode()
