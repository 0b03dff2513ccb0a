"""What of sockjs-tornado the adapter has, and what to do about the rest: tables, no sources."""

OLD, NEW = "sockjs.tornado", "sockjs_aio.tornado"

# The modules of the adapter, and what code written for sockjs-tornado finds in them.
COUNTERPARTS = {
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

# Modules of sockjs-tornado that the adapter does without, and what to do instead.
MISSING = {
    "basehandler": "requests are aiohttp's, there are no Tornado handlers to derive from",
    "periodic": "use tornado.ioloop.PeriodicCallback or a task; heartbeats are the server's own",
    "sessioncontainer": "the router keeps the sessions: see router.get_session(id)",
    "static": "the router serves the greeting, info and iframe pages itself",
    "util": "its helpers were internal to sockjs-tornado",
    "websocket": "WebSockets are aiohttp's; for a handler see sockjs_aio.tornado.migrate",
}

_TRANSPORT = "transports are not classes here; the setting disabled_transports chooses among them"


def why_missing(dotted: str) -> str | None:
    """Say why ``sockjs.tornado.DOTTED`` has no counterpart in the adapter; None if it has one.

    What follows a class or a function in `dotted` is not looked at.
    """
    parts = dotted.split(".") if dotted else []
    module = max((m for m in COUNTERPARTS if is_within(dotted, m)), key=len)
    rest = parts[module.count(".") + 1 :] if module else parts
    if not rest or rest[0] in COUNTERPARTS[module]:
        return None
    if rest[0] == "*":
        return "which names are used? import them by name"
    missing = f"{module}.{rest[0]}".lstrip(".")
    advice = _TRANSPORT if module == "transports" else MISSING.get(missing, "")
    return f"{NEW}.{missing} does not exist" + (advice and f": {advice}")


def is_within(dotted: str, module: str) -> bool:
    """Tell whether `dotted` is `module` or a name in it; every name is in ``""``."""
    return not module or f"{dotted}.".startswith(f"{module}.")
