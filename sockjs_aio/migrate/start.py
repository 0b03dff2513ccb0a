"""The start of the server, in what words it may come: listed to be changed by hand."""

import ast
import re
from collections.abc import Iterator

from sockjs_aio.migrate.counterparts import NEW, OLD
from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind


class Start:
    """Finds what starts a Tornado server, and arguments that mean something else now."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._loops: set[str] = set()  # what loops were assigned to
        self._loops = {
            ast.unparse(target)
            for node in facts.nodes
            if isinstance(node, ast.Assign) and self._is_loop(node.value)
            for target in node.targets
        }

    def findings(self) -> Iterator[Finding]:
        """List what is to be changed by hand, and what stays although it looks like it."""
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
                    advice = "a function that makes app = web.Application() and attaches the router"
                    yield Finding(node.lineno, found, advice, Kind.BY_HAND)

    def _advice(self, call: ast.Call) -> str | None:
        function = call.func
        if self._is_application(function):
            return self._application(call)
        if self._facts.full_name(function).startswith("tornado.httpserver.HTTPServer"):
            return "web.run_app(app, port=...), with ssl_context=... for TLS"
        if not isinstance(function, ast.Attribute):
            return None
        if function.attr == "start" and self._is_loop(function.value):
            return "web.run_app(app, port=...), which runs the loop"
        if function.attr == "listen" and call.args:
            return self._listen(call, ast.unparse(function.value))
        return None

    def _application(self, call: ast.Call) -> str:
        """Name the routers whose ``urls`` a Tornado application is made of."""
        inside = [node for node in ast.walk(call) if isinstance(node, ast.Attribute)]
        owners = [ast.unparse(n.value) for n in inside if n.attr in {"urls", "apply_routes"}]
        routers = sorted(dict.fromkeys(owners), key=ast.unparse(call).find) or ["router"]
        attach = "; ".join(f"{router}.attach(app)" for router in routers)
        routes = "; ".join(f"app.add_routes({router}.urls)" for router in routers)
        return f"app = web.Application(); {attach} (or: {routes})"

    def _listen(self, call: ast.Call, server: str) -> str | None:
        if not re.search("app|serv", server, re.IGNORECASE):
            return None
        names = ["port", "host"]
        known = zip(names, call.args, strict=False)
        given = [f"{name}={ast.unparse(argument)}" for name, argument in known]
        return f"web.run_app(app, {', '.join(given)}), where the loop is started"

    def _of_arguments(self, call: ast.Call) -> Iterator[tuple[str, Kind]]:
        names = {keyword.arg for keyword in call.keywords}
        full = self._facts.full_name(call.func)
        is_router = full.startswith((OLD, NEW)) and full.endswith(".SockJSRouter")
        if "io_loop" in names or (is_router and len(call.args) > 3):
            yield "without io_loop: the running asyncio loop serves", Kind.BY_HAND
        if "session_kls" in names or (is_router and len(call.args) > 4):
            yield "as it is: session_kls is supported", Kind.SUPPORTED

    def _is_application(self, node: ast.expr) -> bool:
        names = {"tornado.web.Application", "tornado.web.Application.__init__"}
        return self._facts.full_name(node) in names

    def _is_loop(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in self._loops
        return self._facts.full_name(node.func).startswith("tornado.ioloop.IOLoop")
