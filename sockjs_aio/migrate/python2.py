"""Recognises Python 2, as opposed to other errors, by the line that Python 3 cannot parse.

Such a file has no tree.  Its imports of sockjs-tornado are searched for line by line and listed;
nothing is rewritten.
"""

import ast
import re
from collections.abc import Iterator

from sockjs_aio.migrate.counterparts import OLD
from sockjs_aio.migrate.facts import Facts
from sockjs_aio.migrate.findings import Finding, Kind

_ADVICE = (
    "convert it to Python 3 first (2to3 -w, which comes with Python up to 3.12, does most of it), "
    "then run the command again; until then only its imports are listed"
)
_SIGNS = re.compile(
    r"""^\s*print\s+[^\s=(]|^\s*print\s*>>|^\s*exec\s+[^\s=(]|<>|`[^`]+`
    |\bexcept\s+[\w.]+\s*,\s*(\w+|\([\w\s,]+\))\s*:|\bexcept\s*\([^)]*\)\s*,\s*\w+\s*:
    |^\s*raise\s+[\w.]+\s*,|\b0[0-7]+[lL]?\b|\b\d+[lL]\b|\b[uU][rR]["']
    |\blambda\s*\(|\bdef\s+\w+\([^)]*\([^)]*\)""",
    re.VERBOSE,
)
_CLASS = re.compile(r"[A-Z]\w")  # what looks like a class; a single capital is a variable
_TABS = "inconsistent use of tabs"
_IMPORT = re.compile(r"^\s*(?:from\s+sockjs\.tornado\b.*|import\s+sockjs\.tornado\b.*)", re.M)

# Names that Python 3 has removed; a file with them may still parse.
_BUILTINS = {"basestring", "raw_input", "unichr", "unicode", "xrange"}
_MODULES = {"ConfigParser", "Cookie", "HTMLParser", "Queue", "StringIO", "cPickle", "cStringIO"}
_MODULES |= {"httplib", "urllib2", "urlparse"}
_METHODS = {"has_key", "iteritems", "iterkeys", "itervalues"}


def is_python2(text: str, error: SyntaxError) -> bool:
    """Tell whether parsing `text` raised `error` because it is Python 2."""
    lines = text.splitlines()
    line = lines[error.lineno - 1] if error.lineno and error.lineno <= len(lines) else ""
    return _TABS in error.msg or bool(_SIGNS.search(line))


def reject_old_except(tree: ast.Module) -> None:
    """Refuse ``except A, e:``, which Python 3.14 parses as catching two classes, `A` and `e`.

    Raises:
        SyntaxError: If `e` must be the name that Python 2 binds, as older Python 3 raises.
    """
    nodes = list(ast.walk(tree))
    classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            classes |= {alias.asname or alias.name for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ExceptHandler) and _binds_last(node.type, classes):
            error = SyntaxError("multiple exception types must be parenthesized")
            error.lineno = node.lineno
            raise error


def _binds_last(caught: ast.expr | None, classes: set[str]) -> bool:
    if not isinstance(caught, ast.Tuple) or len(caught.elts) != 2:
        return False
    first, last = caught.elts
    if (last.end_lineno, last.end_col_offset) != (caught.end_lineno, caught.end_col_offset):
        return False  # it has parentheses
    if isinstance(first, ast.Tuple) or isinstance(last, ast.Tuple):
        return True  # Python 3 code does not catch nested tuples
    return isinstance(last, ast.Name) and last.id not in classes and not _CLASS.match(last.id)


def python2(text: str, line: int | None) -> Iterator[Finding]:
    """List what to do about a Python 2 file whose line `line` cannot be parsed."""
    yield Finding(line or 1, "Python 2", _ADVICE, Kind.BROKEN)
    for match in _IMPORT.finditer(text):
        found = match[0].strip()
        advice = _in_python3(found)
        number = text.count("\n", 0, match.start() + len(match[0]) - len(match[0].lstrip())) + 1
        yield Finding(number, found, advice, Kind.UNDECIDABLE)


def _in_python3(statement: str) -> str:
    """Say what to make of an import, which Python 3 can read too unless it goes on below."""
    try:
        imports = Facts(ast.parse(statement)).imports
    except SyntaxError:
        imports = []
    reasons = [found.reason for found in imports if found.reason]
    moved = statement.replace("sockjs", "sockjs_aio", 1)
    return reasons[0] if reasons else f"in Python 3, change it to {moved}"


def is_user(text: str) -> bool:
    """Tell whether a Python 2 file imports sockjs-tornado."""
    assert OLD == "sockjs.tornado", "_IMPORT contains this name"
    return bool(_IMPORT.search(text))


def leftovers(facts: Facts) -> Iterator[Finding]:
    """List all names that Python 3 does not have, in one finding."""
    found: dict[str, int] = {}
    for node in facts.nodes:
        for name in _gone(node, facts):
            line = getattr(node, "lineno", 1)
            found[name] = min(line, found.get(name, line))
    if found:
        in_order = sorted(found.items(), key=lambda item: (item[1], item[0]))
        places = ", ".join(f"{name} (line {line})" for name, line in in_order)
        advice = f"Python 3 has no {places}: run 2to3 to replace them"
        yield Finding(min(found.values()), "Python 2", advice, Kind.BY_HAND)


def _gone(node: ast.AST, facts: Facts) -> list[str]:
    if isinstance(node, ast.Name):
        is_own = node.id in facts.bound or node.id in facts.origins
        return [node.id] if node.id in _BUILTINS and not is_own else []
    if isinstance(node, ast.Import):
        if facts.is_guarded(node):
            return []
        return [alias.name for alias in node.names if alias.name in _MODULES]
    if isinstance(node, ast.ImportFrom):
        is_gone = node.module in _MODULES and not node.level and not facts.is_guarded(node)
        return [node.module] if is_gone and node.module else []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
        is_print = isinstance(node.left, ast.Name) and node.left.id == "print"
        return ["print >>"] if is_print else []
    if isinstance(node, ast.Attribute):
        return [node.attr] if node.attr in _METHODS else []
    return []
