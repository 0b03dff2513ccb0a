"""Names in strings: they are listed and never rewritten."""

import ast
import re
from collections.abc import Iterator
from typing import TypeGuard

from sockjs_aio.migrate.counterparts import NEW, OLD, is_within
from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind


class _String(ast.Constant):
    """For type checkers: a constant that is a string."""

    value: str


def _is_string(node: ast.AST) -> TypeGuard[_String]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def quoted_names(facts: Facts) -> list[_String]:
    """Return the strings that name what the file binds: in annotations and in ``__all__``."""
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
    """List imports by a string, and other strings that name sockjs-tornado or a part of it."""
    seen: set[ast.AST] = set(quoted_names(facts)) if facts.plain else set()  # obstacles already
    for node in facts.nodes:
        if not isinstance(node, ast.Call) or not _is_dynamic_import(node):
            continue
        values = {n: n.value for n in ast.walk(node) if _is_string(n)}
        if any(is_within(v, OLD) for v in values.values()) or {"sockjs", "tornado"} <= {
            *values.values()
        }:
            seen |= values.keys()
            advice = f"an import at run time: of {NEW}?"
            yield Finding(node.lineno, brief(node), advice, Kind.UNDECIDABLE)
    for node in facts.nodes:
        if (
            _is_string(node)
            and node not in seen
            and re.fullmatch(r"sockjs\.tornado\b\S*", node.value)
        ):
            advice = f"a name in a string: of {NEW}?"
            yield Finding(node.lineno, brief(node), advice, Kind.UNDECIDABLE)


def _is_dynamic_import(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    return name in {"__import__", "import_module", "find_spec", "run_module", "resolve_name"}
