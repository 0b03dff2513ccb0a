"""Tables: which names of sockjs-tornado the adapter has, and what to use instead of the others."""

OLD, NEW = "sockjs.tornado", "sockjs_aio.tornado"

# The adapter's modules, and what code written for sockjs-tornado can import from them.
COUNTERPARTS: dict[str, set[str]] = {
    "": {"SockJSConnection", "SockJSRouter"},
    "conn": {"SockJSConnection"},
    "migrate": {"WebsocketHandler"},
    "proto": {"CONNECT", "DISCONNECT", "HEARTBEAT", "MESSAGE"}
    | {"disconnect", "json_decode", "json_encode"},
    "router": {"DEFAULT_SETTINGS", "SockJSRouter"},
    "session": {"BaseSession", "ConnectionInfo", "Session"}
    | {"CLOSED", "CLOSING", "CONNECTING", "OPEN"},
    "stats": {"MovingAverage", "StatsCollector"},
    "transports": set(),
    "transports.base": {"BaseTransportMixin"},
}

# Modules of sockjs-tornado that the adapter does not have, and what to do instead.
MISSING = {
    "basehandler": "remove it; aiohttp handles the requests, so there is no handler to derive from",
    "periodic": "use tornado.ioloop.PeriodicCallback or an asyncio task; the server sends "
    "heartbeats itself",
    "sessioncontainer": "use router.get_session(id); the router keeps the sessions",
    "static": "remove it; the router serves the greeting, info and iframe pages itself",
    "util": "copy the helpers that you need; they were internal to sockjs-tornado",
    "websocket": "remove it; aiohttp handles WebSockets (to port a WebSocketHandler, derive from "
    "sockjs_aio.tornado.migrate.WebsocketHandler)",
}

_TRANSPORT = "use the setting disabled_transports to choose transports; they are not classes here"


def why_missing(dotted: str) -> str | None:
    """Say why ``sockjs.tornado.DOTTED`` has no counterpart in the adapter; None if it has one.

    Attributes of a class or a function are not checked.
    """
    parts = dotted.split(".") if dotted else []
    module = max((m for m in COUNTERPARTS if is_within(dotted, m)), key=len)
    rest = parts[module.count(".") + 1 :] if module else parts
    if not rest or rest[0] in COUNTERPARTS[module]:
        return None
    if rest[0] == "*":
        return "replace * with the names that you use"
    missing = f"{module}.{rest[0]}".lstrip(".")
    other = MISSING.get(missing, "change the code that uses it")
    advice = _TRANSPORT if module == "transports" else other
    return f"{NEW}.{missing} does not exist: {advice}"


def is_within(dotted: str, module: str) -> bool:
    """Tell whether `dotted` is `module` or a name in it; every name is in ``""``."""
    return not module or f"{dotted}.".startswith(f"{module}.")
