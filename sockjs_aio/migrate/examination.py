"""Move code written for sockjs-tornado to `sockjs_aio.tornado`: ``python -m sockjs_aio.migrate``.

Sources are read with `ast` and never run; what cannot be decided from one file alone is listed, not
guessed.  Only imports and ``sockjs.tornado.X`` are rewritten, by putting ``_aio`` behind the word
``sockjs``; the result has to parse to the tree that was meant, or the file is left alone.  Nothing
here imports the rest of the package.
"""

import argparse
import ast
import enum
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import tokenize
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

OLD, NEW = "sockjs.tornado", "sockjs_aio.tornado"

# The modules of the adapter, and what code written for sockjs-tornado finds in them.
COUNTERPARTS = {
    "": {"SockJSConnection", "SockJSRouter"},
    "conn": {"SockJSConnection"},
    "migrate": {"WebsocketHandler"},
    "proto": {"CONNECT", "DISCONNECT", "HEARTBEAT", "MESSAGE"}
    | {"disconnect", "json_decode", "json_encode"},
    "router": {"DEFAULT_SETTINGS", "SockJSRouter"},
    "session": {"BaseSession", "ConnectionInfo", "Session"}
    | {"CLOSED", "CLOSING", "CONNECTING", "OPEN"},
    "stats": {"MovingAverage", "StatsCollector"},
    "transports": set(),
    "transports.base": {"BaseTransportMixin"},
}

# Modules of sockjs-tornado that the adapter does without, and what to do instead.
MISSING = {
    "basehandler": "requests are aiohttp's, there are no Tornado handlers to derive from",
    "periodic": "use tornado.ioloop.PeriodicCallback or a task; heartbeats are the server's own",
    "sessioncontainer": "the router keeps the sessions: see router.get_session(id)",
    "static": "the router serves the greeting, info and iframe pages itself",
    "util": "its helpers were internal to sockjs-tornado",
    "websocket": "WebSockets are aiohttp's; for a handler see sockjs_aio.tornado.migrate",
}
_TRANSPORT = "transports are not classes here; the setting disabled_transports chooses among them"

_THREE_LINES = """\
The start of the server becomes (from aiohttp import web):
    app = web.Application()
    router.attach(app)  # or: app.add_routes(router.urls)
    web.run_app(app, port=...)"""

_EPILOG = """\
Without --write nothing is changed. Directories are searched for *.py, except in hidden directories,
virtual environments, node_modules and __pycache__; symbolic links in them are not followed.

Lines marked "by hand" say what to change where the server starts; --write leaves these alone.
Lines marked "undecidable" need a decision first; "broken" files could not be read or written.

exit status:
  0  nothing is left to decide (there may still be changes to make, or lines marked "by hand")
  1  undecidable places or broken files were listed
  2  wrong use, for instance a PATH that does not exist; nothing was changed"""


class Kind(enum.Enum):
    """What is to be done about a finding."""

    REWRITE = enum.auto()  # --write does it
    BY_HAND = enum.auto()  # what to do is known, but is more than a change of names
    SUPPORTED = enum.auto()  # stays as it is
    UNDECIDABLE = enum.auto()
    BROKEN = enum.auto()  # the file is skipped


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A line of the report: what was found in line `line`, and what to make of it."""

    line: int
    found: str
    advice: str
    kind: Kind = field(compare=False)

    def render(self, path: Path) -> str:
        """Return the line that is printed for a finding in `path`."""
        place = f"{path}:{self.line}: "
        if self.kind in (Kind.REWRITE, Kind.SUPPORTED):
            return f"{place}{self.found} -> {self.advice}"
        if self.kind is Kind.BY_HAND:
            return f"{place}{self.found} -> {self.advice} (by hand)"
        return f"{place}{self.kind.name.lower()}: {self.found}: {self.advice}"


@dataclass(frozen=True, slots=True)
class Examination:
    """What became of one file: the findings by line, and its new content if that differs."""

    findings: list[Finding]
    rewritten: bytes | None = None


def why_missing(dotted: str) -> str | None:
    """Say why ``sockjs.tornado.DOTTED`` has no counterpart in the adapter; None if it has one.

    What follows a class or a function in `dotted` is not looked at.
    """
    parts = dotted.split(".") if dotted else []
    module = max((m for m in COUNTERPARTS if _is_within(dotted, m)), key=len)
    rest = parts[module.count(".") + 1 :] if module else parts
    if not rest or rest[0] in COUNTERPARTS[module]:
        return None
    if rest[0] == "*":
        return "which names are used? import them by name"
    missing = f"{module}.{rest[0]}".lstrip(".")
    advice = _TRANSPORT if module == "transports" else MISSING.get(missing, "")
    return f"{NEW}.{missing} does not exist" + (advice and f": {advice}")


def _is_within(dotted: str, module: str) -> bool:
    return not module or f"{dotted}.".startswith(f"{module}.")


class _Source:
    """The text of a file, and where in it the nodes of its tree stand."""

    def __init__(self, raw: bytes) -> None:
        lines = re.sub(rb"\r\n?", b"\n", raw)  # the detector knows no other ends of lines
        self.encoding, _ = tokenize.detect_encoding(io.BytesIO(lines).readline)
        self.text = raw.decode(self.encoding)
        self._starts = [0] + [end.end() for end in re.finditer(r"\r\n|\r|\n", self.text)]
        self.tree = _parse(self.text)

    def word(self, node: "_Place") -> int | None:
        """Return the index of the word ``sockjs`` that `node` begins with, or None."""
        start = self._starts[node.lineno - 1]
        column = node.col_offset  # in bytes of UTF-8
        start += len(self.text[start : start + column].encode()[:column].decode(errors="ignore"))
        if isinstance(node, ast.ImportFrom):
            keyword = re.compile(r"from(?:[ \t\f]|\\(?:\r\n|\r|\n))+").match(self.text, start)
            start = keyword.end() if keyword else -1
        return start if start >= 0 and self.text.startswith("sockjs", start) else None

    def rewrite(self, places: "Sequence[_Place]", raw: bytes) -> bytes:
        """Return the file, of content `raw`, with ``sockjs_aio`` at each of `places`.

        Raises:
            ValueError: If that would change anything else.
        """
        if self.text.encode(self.encoding) != raw:
            raise ValueError(f"{self.encoding} does not give back the same bytes")
        text = self.text
        for at in sorted({self.word(place) or 0 for place in places}, reverse=True):
            text = f"{text[:at]}sockjs_aio{text[at + 6 :]}"
        for place in places:
            _rename(place)
        if _shape(_parse(text)) != _shape(self.tree):
            raise ValueError("rewriting it would change more than names")
        return text.encode(self.encoding)


_Place = ast.Name | ast.alias | ast.ImportFrom


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():  # about escapes in strings, for instance
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _rename(node: _Place) -> None:
    if isinstance(node, ast.Name):
        node.id = "sockjs_aio"
    elif isinstance(node, ast.alias):
        node.name = node.name.replace("sockjs", "sockjs_aio", 1)
    else:
        node.module = (node.module or "").replace("sockjs", "sockjs_aio", 1)


def _shape(tree: ast.AST) -> list[object]:
    """Return what two trees have in common if only their positions differ, without recursion."""

    def plain(value: object) -> object:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return type(value) if isinstance(value, ast.AST) else repr(value)

    return [(type(n), [plain(value) for _, value in ast.iter_fields(n)]) for n in ast.walk(tree)]


@dataclass(frozen=True, slots=True)
class _Import:
    """An import of sockjs-tornado: moved as a whole, or left."""

    place: ast.alias | ast.ImportFrom
    line: int
    text: str
    binds: frozenset[str]
    reason: str | None  # why it has no counterpart


class _Facts:
    """What one walk over a tree finds: who imports what, and who else binds which name."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = list(ast.walk(tree))
        self.parents = {child: n for n in self.nodes for child in ast.iter_child_nodes(n)}
        self.imports: list[_Import] = []
        self.plain: list[_Import] = []  # those that bind the name ``sockjs`` to the package
        self.origins: dict[str, set[str]] = {}  # full names of what imports bind
        self.bound: dict[str, int] = {}  # names bound otherwise, and in which line
        self.is_user = False
        for node in self.nodes:
            if isinstance(node, ast.Import):
                self._note_import(node)
            elif isinstance(node, ast.ImportFrom):
                self._note_import_from(node)
            else:
                for name in _bindings(node):
                    self.bound.setdefault(name, getattr(node, "lineno", 1))

    def _note_import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self._note(name, alias.name if alias.asname else name, alias.name)
            if not _is_within(alias.name, OLD):
                continue
            text = ast.unparse(ast.Import([alias]))
            reason = why_missing(alias.name[len(OLD) + 1 :])
            found = _Import(alias, alias.lineno, text, frozenset({name}), reason)
            (self.imports if alias.asname else self.plain).append(found)

    def _note_import_from(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            for alias in node.names:
                self.bound.setdefault(alias.asname or alias.name, node.lineno)
            return
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        binds = frozenset(alias.asname or alias.name for alias in node.names)
        for alias, name in zip(node.names, names, strict=True):
            self._note(alias.asname or alias.name, name, name)
        if not any(_is_within(name, OLD) for name in names):
            return
        reasons = [_why_not_moved(name) for name in names]
        reason = "; ".join(dict.fromkeys(filter(None, reasons))) or None
        self.imports.append(_Import(node, node.lineno, _brief(node), binds, reason))

    def _note(self, name: str, origin: str, imported: str) -> None:
        self.origins.setdefault(name, set()).add(origin)
        self.is_user |= _is_within(imported, OLD) or _is_within(imported, NEW)

    def chain(self, name: ast.Name) -> tuple[ast.expr, str]:
        """Return the longest ``name.attribute.attribute`` that begins with `name`, and its text."""
        top: ast.expr = name
        text = name.id
        while isinstance(parent := self.parents.get(top), ast.Attribute):
            top, text = parent, f"{text}.{parent.attr}"
        return top, text

    def full_name(self, node: ast.expr) -> str:
        """Return the full name of what the imports of the file make of `node`, or ``""``."""
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.bound:
            return ""
        origins = self.origins.get(node.id, set())
        return ".".join([*origins, *attributes]) if len(origins) == 1 else ""


def _why_not_moved(name: str) -> str | None:
    if _is_within(name, OLD):
        return why_missing(name[len(OLD) + 1 :])
    return f"{name} stays where it is: import it in a statement of its own"


def _bindings(node: ast.AST) -> list[str]:
    """Return the names that `node` itself binds, or declares, other than by an import."""
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


def _brief(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


class _Mover:
    """Decides which places of a file are rewritten, and which are left."""

    def __init__(self, source: _Source, facts: _Facts) -> None:
        self._source, self._facts = source, facts
        self.places: list[_Place] = []
        self.findings: list[Finding] = []
        self._uses_of_aliases()
        self._uses_of_package()

    def _move(self, place: _Place, line: int, text: str) -> None:
        self.places.append(place)
        self._list(line, text, text.replace("sockjs", "sockjs_aio", 1), Kind.REWRITE)

    def _list(self, line: int, text: str, advice: str, kind: Kind = Kind.UNDECIDABLE) -> None:
        self.findings.append(Finding(line, text, advice, kind))

    def _uses_of_aliases(self) -> None:
        """Move the imports under other names, unless such a name leads to what is missing."""
        kept: dict[str, int] = {}
        movable = [found for found in self._facts.imports if not found.reason]
        own = {name for found in movable for name in found.binds}
        for node in self._facts.nodes:
            if not isinstance(node, ast.Name) or node.id not in own:
                continue
            top, text = self._facts.chain(node)
            full = self._facts.full_name(top)
            reason = why_missing(full[len(OLD) + 1 :]) if _is_within(full, OLD) else None
            if reason:
                self._list(node.lineno, text, reason)
                kept[node.id] = node.lineno
        for found in self._facts.imports:
            lines = [kept[name] for name in found.binds if name in kept]
            reason = found.reason or (f"left because of line {min(lines)}" if lines else None)
            self._move_or_list(found, reason)

    def _move_or_list(self, found: _Import, reason: str | None) -> None:
        if not reason and self._source.word(found.place) is None:
            reason = "spelt in a way that is not understood"
        if reason:
            self._list(found.line, found.text, reason)
        else:
            self._move(found.place, found.line, found.text)

    def _uses_of_package(self) -> None:
        """Move ``import sockjs.tornado`` and all uses of the name it binds, or none."""
        names = [n for n in self._facts.nodes if isinstance(n, ast.Name) and n.id == "sockjs"]
        uses = [(name, self._facts.chain(name)[1]) for name in names]
        if not self._facts.plain:
            self._list_strays(uses)
            return
        obstacles = _obstacles(self._facts)
        for place, line, text, reason in [
            *((found.place, found.line, found.text, found.reason) for found in self._facts.plain),
            *((name, name.lineno, text, self._why_not_used(name, text)) for name, text in uses),
        ]:
            if not reason and self._source.word(place) is None:
                reason = "not found in the text as it is written here"
            if reason:
                obstacles.append(Finding(line, text, reason, Kind.UNDECIDABLE))
        self.findings += obstacles
        stuck = {(obstacle.line, obstacle.found) for obstacle in obstacles}
        for found in self._facts.plain:
            self._move_with(found.place, found.line, found.text, stuck)
        for name, text in uses:
            self._move_with(name, name.lineno, text, stuck)

    def _move_with(self, place: _Place, line: int, text: str, stuck: set[tuple[int, str]]) -> None:
        if not stuck:
            self._move(place, line, text)
        elif (line, text) not in stuck:
            self._list(line, text, f"left because of line {min(stuck)[0]}")

    def _list_strays(self, uses: list[tuple[ast.Name, str]]) -> None:
        """List ``sockjs.tornado.X`` in a file that has the name ``sockjs`` from elsewhere."""
        if any(origin != "sockjs" for origin in self._facts.origins.get("sockjs", ())):
            return  # it is another module, under this name
        for name, text in uses:
            if _is_within(text, OLD):
                self._list(name.lineno, text, "sockjs.tornado is not imported in this file")

    def _why_not_used(self, name: ast.Name, text: str) -> str | None:
        parent = self._facts.parents[name]
        if not isinstance(parent, ast.Attribute) or parent.attr != "tornado":
            return "the name sockjs is used for more than sockjs.tornado"
        if not isinstance(parent.ctx, ast.Load):
            return "sockjs.tornado is assigned to"
        return why_missing(text[len(OLD) + 1 :])


def _obstacles(facts: _Facts) -> list[Finding]:
    """List what stands against renaming ``sockjs`` throughout, apart from names in expressions."""
    found: list[tuple[ast.AST, str]] = []
    why = "the name sockjs is bound here too"
    plain = {imported.place for imported in facts.plain}
    for node in facts.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                if name == "sockjs" and alias not in plain:
                    found.append((node, why))
        elif not isinstance(node, ast.Name) and "sockjs" in _bindings(node):
            found.append((node, why))
    for string in _quoted_names(facts):
        if re.search(r"(?<![\w.])sockjs\b", string.value):
            found.append((string, "the name sockjs is used in a string"))
    return [Finding(_line(n), _brief(n), advice, Kind.UNDECIDABLE) for n, advice in found]


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 1)


class _String(ast.Constant):
    """For type checkers: a constant that is a string."""

    value: str


def _is_string(node: ast.AST) -> TypeGuard[_String]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _quoted_names(facts: _Facts) -> list[_String]:
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


def _strings(facts: _Facts) -> Iterator[Finding]:
    """List imports by a string, and other strings that name sockjs-tornado or a part of it."""
    seen: set[ast.AST] = set(_quoted_names(facts)) if facts.plain else set()  # obstacles already
    for node in facts.nodes:
        if not isinstance(node, ast.Call) or not _is_dynamic_import(node):
            continue
        values = {n: n.value for n in ast.walk(node) if _is_string(n)}
        if any(_is_within(v, OLD) for v in values.values()) or {"sockjs", "tornado"} <= {
            *values.values()
        }:
            seen |= values.keys()
            advice = f"an import at run time: of {NEW}?"
            yield Finding(node.lineno, _brief(node), advice, Kind.UNDECIDABLE)
    for node in facts.nodes:
        if (
            _is_string(node)
            and node not in seen
            and re.fullmatch(r"sockjs\.tornado\b\S*", node.value)
        ):
            advice = f"a name in a string: of {NEW}?"
            yield Finding(node.lineno, _brief(node), advice, Kind.UNDECIDABLE)


def _is_dynamic_import(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    return name in {"__import__", "import_module", "find_spec", "run_module", "resolve_name"}


class _Start:
    """Finds what starts a Tornado server, and arguments that mean something else now."""

    def __init__(self, facts: _Facts) -> None:
        self._facts = facts
        self._loops: set[str] = set()  # what loops were assigned to
        self._loops = {
            ast.unparse(target)
            for node in facts.nodes
            if isinstance(node, ast.Assign) and self._is_loop(node.value)
            for target in node.targets
        }

    def findings(self) -> Iterator[Finding]:
        for node in self._facts.nodes:
            if isinstance(node, ast.Call):
                if advice := self._advice(node):
                    yield Finding(node.lineno, _brief(node), advice, Kind.BY_HAND)
                for advice, kind in self._of_arguments(node):
                    yield Finding(node.lineno, _brief(node), advice, kind)
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


def examine(raw: bytes) -> Examination:
    """Find what code for sockjs-tornado has to change in a Python file of content `raw`.

    The `rewritten` content of the answer is None where nothing is to be rewritten.
    """
    try:
        source = _Source(raw)
        if "sockjs" not in unicodedata.normalize("NFKC", source.text):  # as in identifiers
            return Examination([])
        facts = _Facts(source.tree)
        mover = _Mover(source, facts)
        findings = [*mover.findings, *_strings(facts)]
        if facts.is_user:
            findings += _Start(facts).findings()
    except SyntaxError as error:
        return _broken(error.msg, error.lineno or 1)
    except (ValueError, LookupError) as error:  # undecodable; a null byte; an unknown codec
        return _broken(str(error))
    except (RecursionError, MemoryError):
        return _broken("nested too deeply")
    if not mover.places:
        return Examination(sorted(set(findings)))
    try:
        rewritten = source.rewrite(mover.places, raw)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        findings = [_left(f, str(error)) if f.kind is Kind.REWRITE else f for f in findings]
        return Examination(sorted(set(findings)))
    return Examination(sorted(set(findings)), rewritten)


def _broken(reason: str, line: int = 1, *, found: str = "cannot be read") -> Examination:
    return Examination([Finding(line, found, reason, Kind.BROKEN)])


def _left(finding: Finding, reason: str) -> Finding:
    return Finding(finding.line, finding.found, f"left: {reason}", Kind.UNDECIDABLE)


def python_files(path: Path) -> Iterator[Path | OSError]:
    """Yield the Python files at and below `path` in sorted order, and the errors on the way.

    A file is taken whatever its name is.  Hidden directories, virtual environments, node_modules
    and __pycache__ are left out, unless `path` itself is one, and so are symbolic links below it.
    """
    if not os.path.isdir(path):
        yield path
        return
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        yield error
        return
    for entry in entries:
        below = path / entry.name
        if entry.is_dir(follow_symlinks=False):
            skipped = entry.name.startswith(".") or entry.name in {"node_modules", "__pycache__"}
            if not skipped and not os.path.exists(below / "pyvenv.cfg"):
                yield from python_files(below)
        elif entry.name.endswith(".py") and not entry.is_symlink():
            yield below


def read_file(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: If it cannot be read, or is something else, whose end might never come.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.read_bytes()


def replace_file(path: Path, content: bytes) -> None:
    """Give the file at `path` a new content in one step, and keep its mode.

    Raises:
        OSError: If that fails; the file is then as it was.
    """
    target = path.resolve()  # a link stays a link
    descriptor, name = tempfile.mkstemp(prefix=".migrate-", dir=target.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, name)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def migrate_file(path: Path, *, write: bool) -> list[Finding]:
    """Examine the file at `path`, rewrite it if `write` is true, and return the findings."""
    try:
        examination = examine(read_file(path))
    except OSError as error:
        return _broken(error.strerror or str(error)).findings
    findings = examination.findings
    if write and examination.rewritten is not None:
        try:
            replace_file(path, examination.rewritten)
        except OSError as error:
            failure = _broken(error.strerror or str(error), found="cannot be written")
            return failure.findings + [f for f in findings if f.kind is not Kind.REWRITE]
    return findings


def migrate(paths: Iterable[Path], *, write: bool) -> Iterator[tuple[Path, list[Finding]]]:
    """Examine the Python files below `paths`, each once, and rewrite them if `write` is true."""
    seen = set()
    for path in paths:
        for file in python_files(path):
            if isinstance(file, OSError):
                yield Path(file.filename), _broken(file.strerror or str(file)).findings
            elif (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, migrate_file(file, write=write)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m sockjs_aio.migrate",
        description="Report what code for sockjs-tornado has to change for sockjs_aio.tornado.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="file or directory")
    parser.add_argument("--write", action="store_true", help="rewrite imports and sockjs.tornado.X")
    options = parser.parse_args(arguments)
    for path in options.paths:
        if not os.path.exists(path):
            parser.error(f"{path}: no such file or directory")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name of a file may not be printable
        sys.stdout.reconfigure(errors="backslashreplace")
    files = 0
    counts: Counter[Kind] = Counter()
    for path, findings in migrate(options.paths, write=options.write):
        files += 1
        for finding in findings:
            counts[finding.kind] += 1
            print(finding.render(path))
    if counts[Kind.BY_HAND]:
        print(_THREE_LINES)
    done = "rewritten" if options.write else "to rewrite (with --write)"
    print(
        f"{_number(files, 'file')}: {_number(counts[Kind.REWRITE], 'place')} {done}, "
        f"{counts[Kind.BY_HAND]} by hand, {counts[Kind.UNDECIDABLE]} undecidable, "
        f"{counts[Kind.BROKEN]} broken"
    )
    return 1 if counts[Kind.UNDECIDABLE] or counts[Kind.BROKEN] else 0


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
