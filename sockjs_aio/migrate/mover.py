"""Decides which imports and uses of sockjs-tornado are rewritten; `source` rewrites them."""

import ast
import re

from sockjs_aio.migrate.counterparts import OLD, is_within, why_missing
from sockjs_aio.migrate.facts import Facts, Import, bindings, brief
from sockjs_aio.migrate.findings import Finding, Kind
from sockjs_aio.migrate.source import Place, Source
from sockjs_aio.migrate.strings import quoted_names

_BY_HAND = "change this by hand, then run the command again"
_SPELLING = f"the command does not understand this spelling; {_BY_HAND}"
_NOT_IMPORTED = (
    "this file does not import sockjs.tornado; import sockjs_aio.tornado here, and use that name"
)


class Mover:
    """Decides which places in a file are rewritten and which are only listed."""

    def __init__(self, source: Source, facts: Facts) -> None:
        self._source, self._facts = source, facts
        self.places: list[Place] = []
        self.findings: list[Finding] = []
        self._uses_of_aliases()
        self._uses_of_package()

    def _move(self, place: Place, line: int, text: str) -> None:
        self.places.append(place)
        self._list(line, text, text.replace("sockjs", "sockjs_aio", 1), Kind.REWRITE)

    def _list(self, line: int, text: str, advice: str, kind: Kind = Kind.UNDECIDABLE) -> None:
        self.findings.append(Finding(line, text, advice, kind))

    def _uses_of_aliases(self) -> None:
        """Move imports that bind other names than ``sockjs``, unless a use has no counterpart."""
        kept: dict[str, int] = {}
        movable = [found for found in self._facts.imports if not found.reason]
        own = {name for found in movable for name in found.binds}
        for node in self._facts.nodes:
            if not isinstance(node, ast.Name) or node.id not in own:
                continue
            top, text = self._facts.chain(node)
            full = self._facts.full_name(top)
            reason = why_missing(full[len(OLD) + 1 :]) if is_within(full, OLD) else None
            if reason:
                self._list(node.lineno, text, reason)
                kept[node.id] = node.lineno
        for found in self._facts.imports:
            lines = [kept[name] for name in found.binds if name in kept]
            reason = found.reason or (_because_of(min(lines)) if lines else None)
            self._move_or_list(found, reason)

    def _move_or_list(self, found: Import, reason: str | None) -> None:
        if not reason and self._source.word(found.place) is None:
            reason = _SPELLING
        if reason:
            self._list(found.line, found.text, reason)
        else:
            self._move(found.place, found.line, found.text)

    def _uses_of_package(self) -> None:
        """Move ``import sockjs.tornado`` and all uses of the name that it binds, or nothing."""
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
                reason = _SPELLING
            if reason:
                obstacles.append(Finding(line, text, reason, Kind.UNDECIDABLE))
        self.findings += obstacles
        stuck = {(obstacle.line, obstacle.found) for obstacle in obstacles}
        for found in self._facts.plain:
            self._move_with(found.place, found.line, found.text, stuck)
        for name, text in uses:
            self._move_with(name, name.lineno, text, stuck)

    def _move_with(self, place: Place, line: int, text: str, stuck: set[tuple[int, str]]) -> None:
        if not stuck:
            self._move(place, line, text)
        elif (line, text) not in stuck:
            self._list(line, text, _because_of(min(stuck)[0]))

    def _list_strays(self, uses: list[tuple[ast.Name, str]]) -> None:
        """List ``sockjs.tornado.X`` in a file that does not import ``sockjs.tornado``."""
        if any(origin != "sockjs" for origin in self._facts.origins.get("sockjs", ())):
            return  # the name belongs to another module
        for name, text in uses:
            if is_within(text, OLD):
                self._list(name.lineno, text, _NOT_IMPORTED)

    def _why_not_used(self, name: ast.Name, text: str) -> str | None:
        parent = self._facts.parents[name]
        if not isinstance(parent, ast.Attribute) or parent.attr != "tornado":
            return f"the name sockjs is used for more than sockjs.tornado; {_BY_HAND}"
        if not isinstance(parent.ctx, ast.Load):
            return f"sockjs.tornado is assigned to; {_BY_HAND}"
        return why_missing(text[len(OLD) + 1 :])


def _obstacles(facts: Facts) -> list[Finding]:
    """List what prevents renaming ``sockjs`` in the whole file, except names in expressions."""
    found: list[tuple[ast.AST, str]] = []
    why = "the name sockjs is also bound here; use another name here, then run the command again"
    plain = {imported.place for imported in facts.plain}
    for node in facts.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                if name == "sockjs" and alias not in plain:
                    found.append((node, why))
        elif not isinstance(node, ast.Name) and "sockjs" in bindings(node):
            found.append((node, why))
    for string in quoted_names(facts):
        if re.search(r"(?<![\w.])sockjs\b", string.value):
            found.append((string, f"the name sockjs is used in a string; {_BY_HAND}"))
    return [Finding(_line(n), brief(n), advice, Kind.UNDECIDABLE) for n, advice in found]


def _because_of(line: int) -> str:
    return f"not rewritten because of line {line}; change that line, then run the command again"


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 1)
