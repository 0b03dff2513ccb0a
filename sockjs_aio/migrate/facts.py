"""What a file imports and which other names it binds, found in one walk over its tree."""

import ast
from collections.abc import Callable
from dataclasses import dataclass

from sockjs_aio.migrate.counterparts import NEW, OLD, is_within, why_missing

_ZMQ = "zmq.eventloop.ioloop"  # Tornado's, by another name

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Import:
    """An import of sockjs-tornado, which is rewritten as a whole or not at all."""

    place: ast.alias | ast.ImportFrom
    line: int
    text: str
    binds: frozenset[str]
    reason: str | None  # why it cannot be rewritten, if so


class Facts:
    """What one walk over a tree finds: imports, and names that are bound in other ways."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes: list[ast.AST] = list(ast.walk(tree))
        self.parents: dict[ast.AST, ast.AST] = {
            child: n for n in self.nodes for child in ast.iter_child_nodes(n)
        }
        self.imports: list[Import] = []
        self.plain: list[Import] = []  # those that bind ``sockjs`` itself
        self.origins: dict[str, set[str]] = {}  # full names by the name that an import binds
        self.bound: dict[str, int] = {}  # lines by the name that they bind without importing it
        self.imported: set[str] = set()  # full names
        self.is_user: bool = False
        self._scopes_of: dict[str, set[ast.AST]] = {}  # scopes by the name that they bind
        self._globals: set[tuple[ast.AST, str]] = {
            (self._scope(node), name)
            for node in self.nodes
            if isinstance(node, ast.Global)
            for name in node.names
        }
        for node in self.nodes:
            if isinstance(node, ast.Import):
                self._note_import(node)
            elif isinstance(node, ast.ImportFrom):
                self._note_import_from(node)
            else:
                for name in bindings(node):
                    self._bind(node, name)

    def _note_import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._note(name, alias.name if alias.asname else name, alias.name)
            if not is_within(alias.name, OLD):
                continue
            text = ast.unparse(ast.Import([alias]))
            reason = why_missing(alias.name[len(OLD) + 1 :])
            found = Import(alias, alias.lineno, text, frozenset({name}), reason)
            (self.imports if alias.asname else self.plain).append(found)

    def _note_import_from(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            for alias in node.names:
                self._bind(node, alias.asname or alias.name)
            return
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        binds = frozenset(alias.asname or alias.name for alias in node.names)
        for alias, name in zip(node.names, names, strict=True):
            self._note(alias.asname or alias.name, name, name)
        if not any(is_within(name, OLD) for name in names):
            return
        reasons = [_why_not_moved(name) for name in names]
        reason = "; ".join(dict.fromkeys(filter(None, reasons))) or None
        self.imports.append(Import(node, node.lineno, brief(node), binds, reason))

    def _bind(self, node: ast.AST, name: str) -> None:
        self.bound.setdefault(name, getattr(node, "lineno", 1))
        if not isinstance(node, ast.Global | ast.Nonlocal):
            scope = self._scope(node)
            is_global = (scope, name) in self._globals
            self._scopes_of.setdefault(name, set()).add(self.nodes[0] if is_global else scope)

    def _scope(self, node: ast.AST) -> ast.AST:
        """Return the function or class that contains `node`, or the module."""
        return (self.scopes(node) or self.nodes)[0]

    def _is_hidden(self, name: ast.Name) -> bool:
        """Tell whether `name` means something else here than what the file imports."""
        binding = self._scopes_of.get(name.id, set())
        scopes = self.scopes(name)
        # names that a class binds are not seen in its methods
        seen = [s for s in scopes if s is scopes[0] or not isinstance(s, ast.ClassDef)]
        return not binding.isdisjoint([*seen, self.nodes[0]])

    def _note(self, name: str, origin: str, imported: str) -> None:
        self.origins.setdefault(name, set()).add(origin)
        self.imported.add(imported)
        self.is_user |= is_within(imported, OLD) or is_within(imported, NEW)

    def chain(self, name: ast.Name) -> tuple[ast.expr, str]:
        """Return the longest ``name.attribute.attribute`` that begins with `name`, and its text."""
        top: ast.expr = name
        text = name.id
        while isinstance(parent := self.parents.get(top), ast.Attribute):
            top, text = parent, f"{text}.{parent.attr}"
        return top, text

    def assigned(self, is_it: Callable[[ast.expr], bool]) -> dict[str, list[ast.expr]]:
        """Return the values that `is_it` accepts, by their targets, such as ``"self.ticker"``."""
        found: dict[str, list[ast.expr]] = {}
        for node in self.nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                values = [value for value in _alternatives(node.value) if is_it(value)]
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets if values else ():
                    found.setdefault(ast.unparse(target), []).extend(values)
        return found

    def classes(self, full_name: str) -> set[str]:
        """Return the names of this file's classes that derive from a class, or are other names."""
        classes = [node for node in self.nodes if isinstance(node, ast.ClassDef)]
        found = {*self.assigned(lambda value: self.full_name(value) == full_name)}
        while True:
            more = {
                each.name
                for each in classes
                for base in each.bases
                if self.full_name(base) == full_name or ast.unparse(base) in found
            }
            if more <= found:
                return found
            found |= more

    def uses(self, *modules: str) -> bool:
        """Tell whether the file imports one of `modules`, or a part of one."""
        return any(is_within(name, module) for name in self.imported for module in modules)

    def scopes(self, node: ast.AST) -> list[ast.AST]:
        """Return the functions and classes that contain `node`, innermost first."""
        found: list[ast.AST] = []
        parent = self.parents.get(node)
        while parent is not None:
            if isinstance(parent, _SCOPES):
                found.append(parent)
            parent = self.parents.get(parent)
        return found

    def is_guarded(self, node: ast.AST) -> bool:
        """Tell whether `node` is conditional, as in code for several versions."""
        parent = self.parents.get(node)
        while parent is not None:
            if isinstance(parent, ast.Try | ast.If | ast.IfExp):
                return True
            parent = self.parents.get(parent)
        return False

    def full_name(self, node: ast.expr) -> str:
        """Return the full name that `node` has by the file's imports; ``""`` if it has none."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or self._is_hidden(node):
            return ""
        origins = self.origins.get(node.id, set())
        full = ".".join([*origins, *attributes]) if len(origins) == 1 else ""
        return full.replace(_ZMQ, "tornado.ioloop", 1) if is_within(full, _ZMQ) else full


def _alternatives(value: ast.expr) -> list[ast.expr]:
    """Return the values that an expression such as ``loop or IOLoop.current()`` may have."""
    if isinstance(value, ast.BoolOp):
        return [each for part in value.values for each in _alternatives(part)]
    if isinstance(value, ast.IfExp):
        return _alternatives(value.body) + _alternatives(value.orelse)
    return [value]


def _why_not_moved(name: str) -> str | None:
    if is_within(name, OLD):
        return why_missing(name[len(OLD) + 1 :])
    return f"import {name} in a separate statement; it is not part of sockjs-tornado"


def bindings(node: ast.AST) -> list[str]:
    """Return the names that `node` itself binds or declares, except by importing them."""
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.MatchMapping):
        return [node.rest] if node.rest else []
    name = getattr(node, "name", None)  # of functions, classes, handlers, patterns, type parameters
    return [name] if isinstance(name, str) and not isinstance(node, ast.alias) else []


def brief(node: ast.AST) -> str:
    """Return the code of `node` on one line of at most 100 characters."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else f"{text[:97]}..."
