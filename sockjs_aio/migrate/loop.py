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
_UNSEEN = (
    "wherever this ticker is started: before the loop runs, that has no effect; start it in a "
    "function in app.on_startup"
)
_KEPT = (
    "run_app runs another loop than the one that this returns, and what you give to this one never "
    "runs: call IOLoop.current() where you need the loop"
)
_PERHAPS_KEPT = f"if this is called before the loop runs: {_KEPT}"
_RUNS = {"start", "stop", "close", "run_forever", "run_sync", "run_until_complete", "make_current"}
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
            if not isinstance(node, ast.Call):
                continue
            told = []
            if isinstance(node.func, ast.Attribute):
                told.append(self._advice(node, node.func.value, node.func.attr))
            if self._is_ticker(node) and not self._is_started_here(node):
                told.append(_UNSEEN if self._when(node) else None)
            if self._makes_loop(node):
                told.append(self._of_kept_loop(node))
            for advice in filter(None, told):
                yield Finding(node.lineno, brief(node), advice, Kind.BY_HAND)

    def _is_started_here(self, ticker: ast.Call) -> bool:
        """Tell whether this file starts a ticker, which is told there."""
        names = [name for name, values in self._tickers.items() if ticker in values]
        owners = [
            node.value
            for node in self._facts.nodes
            if isinstance(node, ast.Attribute) and node.attr == "start"
        ]
        return ticker in owners or any(ast.unparse(owner) in names for owner in owners)

    def _of_kept_loop(self, call: ast.Call) -> str | None:
        """Say so if a loop is kept that `call` returns before `run_app` makes its own."""
        parent = self._facts.parents.get(call)
        if isinstance(parent, ast.Attribute):
            return None  # used at once
        if isinstance(parent, ast.keyword) and parent.arg == "io_loop":
            return None  # `Start` says to remove it
        if isinstance(parent, ast.arguments):
            return _KEPT  # a default
        names = [name for name, values in self._loops.items() if call in values]
        when = self._when(call)
        if when != _ADVICE:
            is_attribute = any("." in name for name in names)
            return _PERHAPS_KEPT if when and is_attribute else None
        uses = [
            node
            for node in self._facts.nodes
            if isinstance(node, ast.Name | ast.Attribute)
            and isinstance(node.ctx, ast.Load)
            and ast.unparse(node) in names
        ]
        if (uses and all(self._is_told(use) for use in uses)) or isinstance(parent, ast.Expr):
            return None
        return _KEPT

    def _is_told(self, use: ast.expr) -> bool:
        """Tell whether this use of a loop is listed, or ends with the old start."""
        attribute = self._facts.parents.get(use)
        call = self._facts.parents.get(attribute) if attribute else None
        if not isinstance(attribute, ast.Attribute):
            return False
        if attribute.attr in _RUNS:
            return True
        return isinstance(call, ast.Call) and attribute.attr in _LATER and bool(self._when(call))

    def _advice(self, node: ast.Call, owner: ast.expr, name: str) -> str | None:
        if name == "start" and (self._is_ticker(owner) or self._is_ticker_by_name(owner)):
            return self._when(node)
        if name in _LISTENS and (
            self._is_tcp_server(owner) or ast.unparse(owner) in self._tcp_servers
        ):
            return self._when(node)
        if name in _LATER and self._is_loop(owner):
            return None if self._is_end(node) else self._when(node)
        if name in ("run_sync", "run_until_complete") and self._is_loop(owner):
            return _RUN_SYNC
        return None

    def _is_end(self, call: ast.Call) -> bool:
        """Tell whether ``loop.stop`` is handed over, which `Start` lists."""
        return any(
            isinstance(each, ast.Attribute) and each.attr == "stop" and self._is_loop(each.value)
            for argument in call.args
            for each in ast.walk(argument)
        )

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
