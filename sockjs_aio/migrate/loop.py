"""Finds what is started on Tornado's loop before the loop runs, and so would have no effect."""

import ast
import re
from collections.abc import Iterator

from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind

_TICKER = "tornado.ioloop.PeriodicCallback"
_TCP = "tornado.tcpserver.TCPServer"
_LOOP = "tornado.ioloop.IOLoop"
_LISTENS = {"listen", "bind", "start", "add_socket", "add_sockets"}
_LATER = {"add_callback", "add_timeout", "call_at", "call_later", "spawn_callback", "add_future"}
_LATER |= {"add_handler", "add_callback_from_signal", "set_default_executor"}
_LATER |= {"call_soon", "create_task"}  # asyncio's
_ADVICE = "this has no effect before the loop runs: do it in a function in app.on_startup"
_PERHAPS = (
    "if this is called before the loop runs, it has no effect: do it in a function in "
    "app.on_startup"
)
_RUN_SYNC = "this runs another loop than run_app does: do it in a function in app.on_startup"


class BeforeTheLoop:
    """Finds tickers, callbacks and TCP servers that are started before the loop runs."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._ticker_classes = facts.classes(_TICKER)
        self._tcp_classes = facts.classes(_TCP)
        self._tickers = facts.assigned(self._is_ticker)
        self._tcp_servers = facts.assigned(self._is_tcp_server)
        self._loops = facts.assigned(self._makes_loop)

    def findings(self) -> Iterator[Finding]:
        """List them, except in the hooks of a connection, which run on the loop."""
        for node in self._facts.nodes:
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if advice := self._advice(node, node.func.value, node.func.attr):
                yield Finding(node.lineno, brief(node), advice, Kind.BY_HAND)

    def _advice(self, node: ast.AST, owner: ast.expr, name: str) -> str | None:
        if name == "start" and (self._is_ticker(owner) or self._is_ticker_by_name(owner)):
            return self._when(node)
        if name in _LISTENS and (
            self._is_tcp_server(owner) or ast.unparse(owner) in self._tcp_servers
        ):
            return self._when(node)
        if name in _LATER and self._is_loop(owner):
            return self._when(node)
        if name in ("run_sync", "run_until_complete") and self._is_loop(owner):
            return _RUN_SYNC
        return None

    def _when(self, node: ast.AST) -> str | None:
        scopes = self._facts.scopes(node)
        if all(isinstance(scope, ast.ClassDef) for scope in scopes):
            return _ADVICE  # it runs when the module is imported
        if any(isinstance(scope, ast.AsyncFunctionDef | ast.Lambda) for scope in scopes):
            return None
        classes = [scope for scope in scopes if isinstance(scope, ast.ClassDef)]
        bases = " ".join(ast.unparse(base) for scope in classes for base in scope.bases)
        if "Application" in bases or self._starts(scopes[0]):
            return _ADVICE
        if re.search("Connection|Handler|Channel|TestCase", bases):
            return None
        return _PERHAPS

    def _starts(self, scope: ast.AST) -> bool:
        """Tell whether this function starts the server."""
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, name = node.func.value, node.func.attr
                if name == "listen" or (name in ("start", "run_forever") and self._is_loop(owner)):
                    return True
        return False

    def _is_ticker(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in self._ticker_classes:
            return True
        return self._is(node, _TICKER)

    def _is_ticker_by_name(self, node: ast.expr) -> bool:
        name = ast.unparse(node)
        if name == "self":  # of a class that starts itself
            classes = [s for s in self._facts.scopes(node) if isinstance(s, ast.ClassDef)]
            return bool(classes) and classes[0].name in self._ticker_classes
        return name in self._tickers

    def _is_tcp_server(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in self._tcp_classes:
            return True
        return self._is(node, _TCP)

    def _is_loop(self, node: ast.expr) -> bool:
        return self._makes_loop(node) or ast.unparse(node) in self._loops

    def _makes_loop(self, node: ast.expr) -> bool:
        return makes_loop(self._facts, node)

    def _is(self, node: ast.expr, full_name: str) -> bool:
        if not isinstance(node, ast.Call):
            return False
        found = self._facts.full_name(node.func)
        return found == full_name or found.startswith(f"{full_name}.")


def makes_loop(facts: Facts, node: ast.expr) -> bool:
    """Tell whether `node` is a call that returns a loop, Tornado's or asyncio's."""
    if not isinstance(node, ast.Call):
        return False
    found = facts.full_name(node.func)
    is_asyncios = found in ("asyncio.get_event_loop", "asyncio.new_event_loop")
    return is_asyncios or found == _LOOP or found.startswith(f"{_LOOP}.")
