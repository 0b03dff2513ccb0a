"""Finds the start of the server, in all the ways to write it; you change it by hand."""

import ast
import re
from collections.abc import Iterator

from sockjs_aio.migrate.counterparts import NEW, OLD
from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind
from sockjs_aio.migrate.listening import Listening, is_constant, processes
from sockjs_aio.migrate.loop import makes_loop

_SERVER = "tornado.httpserver.HTTPServer"
_TCP = "tornado.tcpserver.TCPServer"
_PORT = ("port", "address", "family", "backlog", "reuse_port")
_LISTENS = {"listen": _PORT, "bind": _PORT, "add_sockets": ("sockets",), "add_socket": ("sockets",)}
_END = (
    "remove it: run_app ends the loop on SIGTERM and SIGINT; put cleanup into a function in "
    "app.on_cleanup"
)
_START = "put this where the loop is started"
_STATIC = 'static_path: app.router.add_static("/static", PATH)'
_SOCKETS = "no change needed while Tornado is installed; pass the sockets to run_app(app, sock=...)"
_MOVED = {
    "tornado.netutil.bind_sockets": (_SOCKETS, Kind.SUPPORTED),
    "tornado.netutil.bind_unix_socket": (_SOCKETS, Kind.SUPPORTED),
    "tornado.autoreload.start": ("remove it: nothing reloads code here", Kind.BY_HAND),
    "tornado.autoreload.wait": ("remove it: nothing reloads code here", Kind.BY_HAND),
}


class Start:
    """Finds what starts a Tornado server, and arguments that have another meaning now."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._server_classes = facts.classes(_SERVER)
        self._loops = facts.assigned(lambda value: makes_loop(facts, value))
        self._servers = facts.assigned(self._makes_server)
        tcp_classes = facts.classes(_TCP)
        self._tcp_servers = facts.assigned(
            lambda value: (
                isinstance(value, ast.Call)
                and (facts.full_name(value.func) == _TCP or ast.unparse(value.func) in tcp_classes)
            )
        )

    def findings(self) -> Iterator[Finding]:
        """List what to change by hand, and what needs no change although it may look so."""
        for node in self._facts.nodes:
            if isinstance(node, ast.Call):
                if advice := self._advice(node):
                    yield Finding(node.lineno, brief(node), advice, Kind.BY_HAND)
                for advice, kind in self._of_arguments(node):
                    yield Finding(node.lineno, brief(node), advice, kind)
            elif isinstance(node, ast.ClassDef):
                bases = [base for base in node.bases if self._is_application(base)]
                for base in bases:
                    found = f"class {node.name}({ast.unparse(base)})"
                    advice = (
                        "replace the class with a function that makes app = web.Application() and "
                        "attaches the router"
                    )
                    yield Finding(node.lineno, found, advice, Kind.BY_HAND)

    def _advice(self, call: ast.Call) -> str | None:
        function = call.func
        full = self._facts.full_name(function)
        if self._is_application(function):
            return self._application(call)
        if self._makes_http_server(call):
            return self._server(call)
        if full == "signal.signal" and self._facts.is_user:
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
        if name == "start" and self._is_server(owner):
            given = {k.arg: k.value for k in call.keywords}
            return processes(call.args[0] if call.args else given.get("num_processes"))
        if name == "add_handlers" and self._is_server(owner) and call.args:
            return _for_one_host(call.args[0]) if self._routers(call) else None
        if name in _LISTENS and self._is_server(owner):
            listening = Listening(call, _LISTENS[name], self._makers(owner))
            return listening.advice(_START) if listening.is_somewhere else None
        return None

    def _server(self, call: ast.Call) -> str:
        """Carry over options that are given here and not where the server listens."""
        start = (
            "run_app(app, host=..., port=...), with the address from the line where it listens; "
            "for TLS add ssl_context=..."
        )
        return "; ".join([start, *Listening(call, ("request_callback",)).notes()])

    def _makers(self, owner: ast.expr) -> list[ast.Call]:
        """Return the calls of HTTPServer that may have made `owner`, or serve it."""
        made = self._servers.get(ast.unparse(owner), [owner] if self._makes_server(owner) else None)
        calls = self._facts.nodes if made is None else made
        return [
            node for node in calls if isinstance(node, ast.Call) and self._makes_http_server(node)
        ]

    def _application(self, call: ast.Call) -> str:
        """Attach the routers whose ``urls`` the Tornado application serves."""
        routers = self._routers(call) or ["router"]
        lines = ["app = web.Application()", *(f"{router}.attach(app)" for router in routers)]
        lines += [_STATIC for keyword in call.keywords if keyword.arg == "static_path"]
        return "; ".join(lines)

    def _routers(self, call: ast.Call) -> list[str]:
        """Return the routers whose ``urls`` a call is given, as they are written there."""
        inside = [node for node in ast.walk(call) if isinstance(node, ast.Attribute)]
        owners = [ast.unparse(n.value) for n in inside if n.attr in {"urls", "apply_routes"}]
        return sorted(dict.fromkeys(owners), key=ast.unparse(call).find)

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

    def _is_application(self, node: ast.expr) -> bool:
        names = {"tornado.web.Application", "tornado.web.Application.__init__"}
        return self._facts.full_name(node) in names

    def _is_loop(self, node: ast.expr) -> bool:
        return makes_loop(self._facts, node) or ast.unparse(node) in self._loops

    def _makes_http_server(self, node: ast.Call) -> bool:
        function = node.func
        is_own = ast.unparse(function) in self._server_classes
        return is_own or self._facts.full_name(function) == _SERVER

    def _is_server(self, node: ast.expr) -> bool:
        text = ast.unparse(node)
        if self._makes_server(node) or text in self._servers:
            return True
        if text in self._tcp_servers:
            return False
        return not isinstance(node, ast.Call) and bool(re.search("app|serv", text, re.IGNORECASE))

    def _makes_server(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        if self._is_application(node.func) or self._makes_http_server(node):
            return True
        return isinstance(node.func, ast.Attribute) and (
            node.func.attr == "listen" and self._makes_server(node.func.value)
        )


def _for_one_host(pattern: ast.expr) -> str:
    """Say how to serve handlers only for the hosts that they are for."""
    if is_constant(pattern, ".*", ".*$", "^.*$", ""):
        return "router.attach(app)"
    return (
        "sub = web.Application(); router.attach(sub); app.add_domain(HOST, sub); without "
        f"add_domain it also answers for other hosts than {ast.unparse(pattern)}"
    )
