"""Finds the start of the server, in all the ways to write it; you change it by hand."""

import ast
from collections.abc import Iterator

from sockjs_aio.migrate.application_settings import given, notes, others
from sockjs_aio.migrate.counterparts import NEW, OLD
from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind
from sockjs_aio.migrate.listening import Listening, is_constant, processes
from sockjs_aio.migrate.loop import makes_loop
from sockjs_aio.migrate.servers import Servers

_PORT = ("port", "address", "family", "backlog", "reuse_port")
_LISTENS = {"listen": _PORT, "bind": _PORT, "add_sockets": ("sockets",), "add_socket": ("sockets",)}
_END = (
    "remove it: run_app ends the loop on SIGTERM and SIGINT; put cleanup into a function in "
    "app.on_cleanup"
)
_START = "put this where the loop is started"
_IF = "if this is a Tornado server: "
_METHOD = "wherever this is called, call run_app(app, ...) with the same address and TLS options"
_CLASS = (
    "replace the class with a function that makes app = web.Application() and attaches the router; "
    "its other handlers do not move along, nor do its settings"
)
_SOCKETS = "no change needed while Tornado is installed; pass the sockets to run_app(app, sock=...)"
_RULES = (
    "aiohttp routes by path: for one host, use a web.Application of its own and "
    "app.add_domain(HOST, sub), with HOST as clients send it, including a port; without it the "
    "service also answers for other hosts"
)
_MOVED = {
    "tornado.netutil.bind_sockets": (_SOCKETS, Kind.SUPPORTED),
    "tornado.netutil.bind_unix_socket": (_SOCKETS, Kind.SUPPORTED),
    "tornado.platform.asyncio.AsyncIOMainLoop": (
        "remove it: Tornado's loop is asyncio's",
        Kind.BY_HAND,
    ),
    "tornado.ioloop.install": ("remove it: Tornado's loop is asyncio's", Kind.BY_HAND),
    "tornado.autoreload.start": ("remove it: nothing reloads code here", Kind.BY_HAND),
    "tornado.autoreload.wait": ("remove it: nothing reloads code here", Kind.BY_HAND),
    **dict.fromkeys(
        [
            f"tornado.routing.{name}"
            for name in ("HostMatches", "RuleRouter", "ReversibleRuleRouter")
        ],
        (_RULES, Kind.UNDECIDABLE),
    ),
}


class Start:
    """Finds what starts a Tornado server, and arguments that have another meaning now."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._servers = Servers(facts)
        self._loops = facts.assigned(lambda value: makes_loop(facts, value))

    def findings(self) -> Iterator[Finding]:
        """List what to change by hand, and what needs no change although it may look so."""
        for node in self._facts.nodes:
            if isinstance(node, ast.Call):
                if advice := self._advice(node):
                    yield Finding(node.lineno, brief(node), advice, Kind.BY_HAND)
                for advice, kind in self._of_arguments(node):
                    yield Finding(node.lineno, brief(node), advice, kind)
            elif isinstance(node, ast.Attribute):
                parent = self._facts.parents.get(node)
                if not isinstance(parent, ast.Call) or parent.func is not node:
                    yield from self._of_method(node)
            elif isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if self._servers.is_application(base):
                        found = f"class {node.name}({ast.unparse(base)})"
                        yield Finding(node.lineno, found, _CLASS, Kind.BY_HAND)

    def _of_method(self, node: ast.Attribute) -> Iterator[Finding]:
        """List methods that are not called here, such as ``partial(app.listen, ...)``."""
        if node.attr in _LISTENS and self._servers.is_server(node.value):
            yield Finding(node.lineno, brief(node), _METHOD, Kind.UNDECIDABLE)
        if node.attr == "stop" and self._is_loop(node.value):
            yield Finding(node.lineno, brief(node), _END, Kind.BY_HAND)

    def _advice(self, call: ast.Call) -> str | None:
        function = call.func
        full = self._facts.full_name(function)
        if self._servers.is_application(function) or self._servers.is_super(function):
            return self._application(call)
        if self._servers.makes_http_server(call):
            return self._server(call)
        if full == "signal.signal" and (self._facts.is_user or self._facts.uses("tornado")):
            return _END
        if full == "tornado.process.fork_processes":
            return processes(call.args[0] if call.args else ast.Constant(0))
        if not isinstance(function, ast.Attribute):
            return None
        owner, name = function.value, function.attr
        if name in ("start", "run_forever") and self._is_loop(owner):
            return "run_app(app, ...), which runs the loop"
        if name == "stop" and self._is_loop(owner):
            return _END
        if name == "start":
            number = dict(given(call)).get("num_processes")
            count = processes(call.args[0] if call.args else number)
            return self._of_server(call, owner, count) if count else None
        if name == "add_handlers" and self._servers.is_server(owner) and call.args:
            return _for_one_host(call.args[0]) if self._routers(call) else None
        if name in _LISTENS:
            listening = Listening(call, _LISTENS[name], self._servers.makers(owner))
            is_told = listening.is_somewhere
            return self._of_server(call, owner, listening.advice(_START)) if is_told else None
        return None

    def _of_server(self, call: ast.Call, owner: ast.expr, advice: str) -> str | None:
        if self._servers.is_server(owner):
            return advice
        return f"{_IF}{advice}" if self._servers.may_listen(call, owner) else None

    def _server(self, call: ast.Call) -> str:
        """Carry over options that are given here and not where the server listens."""
        start = (
            "run_app(app, host=..., port=...), with the address from the line where it listens; "
            "for TLS add ssl_context=..."
        )
        return "; ".join([start, *Listening(call, ("request_callback",)).notes()])

    def _application(self, call: ast.Call) -> str:
        """Attach the routers whose ``urls`` the Tornado application serves."""
        routers = self._routers(call) or ["router"]
        lines = ["app = web.Application()", *(f"{router}.attach(app)" for router in routers)]
        if rest := self._other_handlers(call):
            lines.append(f"the other handlers, {' and '.join(rest)}, do not move along")
        unknown = [f"**{ast.unparse(k.value)}" for k in call.keywords if not k.arg]
        if unknown := [*others(given(call)), *unknown]:
            lines.append(f"the settings {', '.join(unknown)} do not move along")
        return "; ".join(lines + notes(given(call)))

    def _other_handlers(self, call: ast.Call) -> list[str]:
        """Return what else than routers' URLs is in the list of handlers."""
        places = call.args[1:] if self._servers.is_given_self(call) else call.args
        handlers = places[0] if places else dict(given(call)).get("handlers")
        found: list[str] = []
        parts = [] if handlers is None else [handlers]
        while parts:
            part = parts.pop(0)
            if isinstance(part, ast.BinOp):
                parts[:0] = [part.left, part.right]
            elif isinstance(part, ast.List) and not any(
                isinstance(each, ast.Starred) for each in part.elts
            ):
                found += [_handler(each) for each in part.elts]
            elif not self._routers_in(part):
                found.append(brief(part))
        return found

    def _routers(self, call: ast.Call) -> list[str]:
        """Return the routers whose ``urls`` a call is given, as they are written there."""
        return sorted(self._routers_in(call), key=ast.unparse(call).find)

    def _routers_in(self, node: ast.expr) -> list[str]:
        inside = [each for each in ast.walk(node) if isinstance(each, ast.Attribute)]
        owners = [ast.unparse(n.value) for n in inside if n.attr in {"urls", "apply_routes"}]
        return list(dict.fromkeys(owners))

    def _of_arguments(self, call: ast.Call) -> Iterator[tuple[str, Kind]]:
        names = {keyword.arg for keyword in call.keywords}
        full = self._facts.full_name(call.func)
        is_router = full.startswith((OLD, NEW)) and full.endswith(".SockJSRouter")
        if "io_loop" in names or (is_router and len(call.args) > 3):
            yield "remove io_loop: the running asyncio loop is used", Kind.BY_HAND
        if "session_kls" in names or (is_router and len(call.args) > 4):
            yield "no change needed: session_kls is supported", Kind.SUPPORTED
        if full in _MOVED:
            yield _MOVED[full]

    def _is_loop(self, node: ast.expr) -> bool:
        return makes_loop(self._facts, node) or ast.unparse(node) in self._loops


def _handler(route: ast.expr) -> str:
    """Return the handler of ``(PATTERN, HANDLER, ...)`` or ``url(PATTERN, HANDLER, ...)``."""
    parts = route.args if isinstance(route, ast.Call) else getattr(route, "elts", [])
    return brief(parts[1] if len(parts) > 1 else route)


def _for_one_host(pattern: ast.expr) -> str:
    """Say how to serve handlers only for the hosts that they are for."""
    if is_constant(pattern, ".*", ".*$", "^.*$", ""):
        return "router.attach(app)"
    return (
        "sub = web.Application(); router.attach(sub); app.add_domain(HOST, sub), with HOST as "
        "clients send it, including a port, and with all handlers for this host in sub; without "
        f"add_domain it also answers for other hosts than {ast.unparse(pattern)}"
    )
