"""Finds names of sockjs-tornado in strings, which are listed and never rewritten."""

import ast
import re
from collections.abc import Iterator
from typing import TypeGuard

from sockjs_aio.migrate.counterparts import NEW, OLD, is_within
from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind
from sockjs_aio.migrate.settings_files import LOGGER, REQUIRED

_INSTALL = re.compile(r"\bpip[\d.]* install\b.*\bsockjs[-_]tornado\b", re.IGNORECASE)
_REQUIREMENT = re.compile(r"sockjs[-_]tornado\s*(\[.*\])?\s*([<>=!~;@ (].*)?", re.IGNORECASE)


OTHER = (
    "if this is aio-libs' sockjs, see docs/migrating-from-aiolibs-sockjs.md; this command "
    "changes only sockjs-tornado"
)


class _String(ast.Constant):
    """For type checkers: a constant that is a string."""

    value: str


def _is_string(node: ast.AST) -> TypeGuard[_String]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def quoted_names(facts: Facts) -> list[_String]:
    """Return the strings in annotations and in ``__all__``: they name what the file binds."""
    roots: list[ast.AST | None] = []
    for node in facts.nodes:
        if isinstance(node, ast.arg | ast.AnnAssign):
            roots.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots.append(node.returns)
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
                roots.append(node.value)
    return [node for root in roots if root for node in ast.walk(root) if _is_string(node)]


def strings(facts: Facts) -> Iterator[Finding]:
    """List imports by string, and other strings that name sockjs-tornado or a part of it."""
    # `Mover` lists the quoted names
    seen: set[ast.AST] = set(quoted_names(facts)) if facts.plain else set()
    for node in facts.nodes:
        if not isinstance(node, ast.Call) or not _is_dynamic_import(node):
            continue
        values = {n: n.value for n in ast.walk(node) if _is_string(n)}
        if any(is_within(v, OLD) for v in values.values()) or {"sockjs", "tornado"} <= {
            *values.values()
        }:
            seen |= values.keys()
            advice = f"an import at run time; if it is of {OLD}, change it to {NEW}"
            yield Finding(node.lineno, brief(node), advice, Kind.UNDECIDABLE)
    for node in facts.nodes:
        if not _is_string(node) or node in seen:
            continue
        is_name = re.fullmatch(r"sockjs\.tornado\b\S*", node.value)
        if is_name and _names_a_logger(node, facts):
            yield Finding(node.lineno, brief(node), LOGGER, Kind.BY_HAND)
        elif is_name:
            advice = f"a name in a string; if it means the module, change it to {NEW}"
            yield Finding(node.lineno, brief(node), advice, Kind.UNDECIDABLE)


def tornado_loggers(facts: Facts) -> Iterator[Finding]:
    """List uses of the logger that sockjs-tornado writes to, by its name or by Tornado's."""
    for node in facts.nodes:
        is_name = _is_string(node) and node.value == "tornado.general"
        is_object = isinstance(node, ast.Attribute) and (
            facts.full_name(node.value) == "tornado.log.gen_log"
        )
        if is_name or is_object:
            assert isinstance(node, ast.expr)
            yield Finding(node.lineno, brief(node), LOGGER, Kind.BY_HAND)


def requirements(facts: Facts) -> Iterator[Finding]:
    """List requirements in strings, as in a setup.py."""
    for node in facts.nodes:
        if _is_string(node) and (_REQUIREMENT.fullmatch(node.value) or _INSTALL.search(node.value)):
            yield Finding(node.lineno, brief(node), REQUIRED, Kind.BY_HAND)


def other_sockjs(facts: Facts) -> Iterator[Finding]:
    """List imports of aio-libs' sockjs, a package of the same name."""
    if facts.plain or any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == OLD for node in facts.nodes
    ):
        return
    for node in facts.nodes:
        if isinstance(node, ast.Import):
            is_other = any(alias.name == "sockjs" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "sockjs" and not node.level:
            is_other = any(alias.name != "tornado" for alias in node.names)
        else:
            continue
        if is_other:
            yield Finding(node.lineno, brief(node), OTHER, Kind.UNDECIDABLE)


def _names_a_logger(node: ast.AST, facts: Facts) -> bool:
    """Tell whether a string is an argument of `getLogger`, or a key in a table of loggers."""
    parent = facts.parents.get(node)
    if isinstance(parent, ast.Call):
        function = parent.func
        name = function.attr if isinstance(function, ast.Attribute) else ""
        name = function.id if isinstance(function, ast.Name) else name
        return name in ("getLogger", "get_logger")
    if not isinstance(parent, ast.Dict) or node not in parent.keys:
        return False
    table = facts.parents.get(parent)
    if isinstance(table, ast.keyword):
        return table.arg == "loggers"
    if not isinstance(table, ast.Dict):
        return False
    key = table.keys[table.values.index(parent)]
    return isinstance(key, ast.Constant) and key.value == "loggers"


def _is_dynamic_import(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    return name in {"__import__", "import_module", "find_spec", "run_module", "resolve_name"}
