"""Finds what old releases of Tornado had: Python 3.10 and newer need Tornado 6, which has not."""

import ast
from collections.abc import Iterator

from sockjs_aio.migrate.counterparts import is_within
from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind

_COROUTINE = "use gen.coroutine, or async def"
_AWAITABLE = "yield the call itself, which returns an awaitable in current libraries"
_GONE = {
    "tornado.concurrent.TracebackFuture": "use asyncio.Future",
    "tornado.concurrent.return_future": _COROUTINE,
    "tornado.gen.Callback": _AWAITABLE,
    "tornado.gen.Task": _AWAITABLE,
    "tornado.gen.Wait": _AWAITABLE,
    "tornado.gen.WaitAll": _AWAITABLE,
    "tornado.gen.YieldPoint": _AWAITABLE,
    "tornado.gen.engine": _COROUTINE,
    "tornado.stack_context": "use contextvars",
    "tornado.web.asynchronous": _COROUTINE,
    "tornado.wsgi.WSGIAdapter": "serve it as an application of its own",
    "tornado.wsgi.WSGIApplication": "serve it as an application of its own",
}
_DEAD = {"asyncmongo", "brukva", "momoko", "tornado_mysql", "tornadoredis", "toredis"}
_ALIVE = {"motor", "pika.adapters", "zmq.eventloop.zmqstream"}
_STARTUP = "in a function in app.on_startup, because what is made before belongs to another loop"
_CLIENTS = {
    **dict.fromkeys(_DEAD, f"it needs an old Tornado: use a client for asyncio, made {_STARTUP}"),
    **dict.fromkeys(_ALIVE, f"make clients and streams {_STARTUP}"),
}
_STREAMS = {"connect", "read_bytes", "read_until", "read_until_regex"}
_CALLBACK = "Tornado 6 raises an exception for the argument callback: await the call instead"
_PERHAPS = (
    "if the second argument is a callback: Tornado 6 takes it for another argument and never calls "
    "the callback: await the call instead"
)


def old_tornado(facts: Facts) -> Iterator[Finding]:
    """List names that Tornado 6 lacks, each once, callbacks that it ignores, and clients."""
    seen: set[str] = set()
    for node in facts.nodes:
        names = _names(facts, node)
        is_import = isinstance(node, ast.Import | ast.ImportFrom)
        clients = [c for c in _CLIENTS if is_import and any(is_within(n, c) for n in names)]
        for client in clients:
            yield Finding(getattr(node, "lineno", 1), brief(node), _CLIENTS[client], Kind.BY_HAND)
        for full in names:
            gone = next((name for name in _GONE if is_within(full, name)), None)
            if gone and gone not in seen and not facts.is_guarded(node):
                seen.add(gone)
                advice = f"Tornado 6, which Python 3.10 needs, does not have {gone}: {_GONE[gone]}"
                yield Finding(getattr(node, "lineno", 1), brief(node), advice, Kind.BY_HAND)
        if isinstance(node, ast.Call) and (told := _of_callback(node, facts)):
            yield Finding(node.lineno, brief(node), told, Kind.BY_HAND)


def _names(facts: Facts, node: ast.AST) -> list[str]:
    """Return the full names that an import binds or an expression has."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [] if node.level else [f"{node.module}.{alias.name}" for alias in node.names]
    return [facts.full_name(node)] if isinstance(node, ast.Attribute) else []


def _of_callback(call: ast.Call, facts: Facts) -> str | None:
    """Say so if this is like ``client.fetch(request, callback)``, as before Tornado 6."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    is_fetch = name == "fetch" and facts.uses("tornado")
    if not is_fetch and not (name in _STREAMS and facts.uses("tornado.iostream")):
        return None
    if any(keyword.arg == "callback" for keyword in call.keywords):
        return _CALLBACK
    second = call.args[1] if len(call.args) == 2 else None
    return _PERHAPS if isinstance(second, ast.Name | ast.Attribute | ast.Lambda) else None
