"""Finds what is started on Tornado's loop before the loop runs, and so would have no effect."""

import ast
import re
from collections.abc import Container, Iterator

from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind

_TICKER = "tornado.ioloop.PeriodicCallback"
_LOOP = "tornado.ioloop.IOLoop"
_LATER = {"add_callback", "add_timeout", "call_at", "call_later", "spawn_callback", "add_future"}
_LATER |= {"add_handler", "add_callback_from_signal", "set_default_executor"}
_ADVICE = "this has no effect before the loop runs: do it in a function in app.on_startup"
_PERHAPS = (
    "if this is called before the loop runs, it has no effect: do it in a function in "
    "app.on_startup"
)
_RUN_SYNC = "this runs another loop than run_app does: do it in a function in app.on_startup"


class BeforeTheLoop:
    """Finds tickers and callbacks that are started before the loop runs."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._ticker_classes = self._derived_from(_TICKER)
        self._tickers = facts.assigned(self._is_ticker)
        self._loops = facts.assigned(lambda value: self._is(value, _LOOP))

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
        if name in _LATER and self._is_one(owner, self._loops, _LOOP):
            return self._when(node)
        if name == "run_sync" and self._is_one(owner, self._loops, _LOOP):
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
                is_loop = self._is_one(owner, self._loops, _LOOP)
                if name == "listen" or (name == "start" and is_loop):
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

    def _derived_from(self, full_name: str) -> set[str]:
        """Return the names of this file's classes that derive from a class."""
        classes = [node for node in self._facts.nodes if isinstance(node, ast.ClassDef)]
        found: set[str] = set()
        while True:
            more = {
                each.name
                for each in classes
                for base in each.bases
                if self._facts.full_name(base) == full_name or ast.unparse(base) in found
            }
            if more <= found:
                return found
            found |= more

    def _is_one(self, node: ast.expr, names: Container[str], full_name: str) -> bool:
        return self._is(node, full_name) or ast.unparse(node) in names

    def _is(self, node: ast.expr, full_name: str) -> bool:
        if not isinstance(node, ast.Call):
            return False
        found = self._facts.full_name(node.func)
        return found == full_name or found.startswith(f"{full_name}.")
