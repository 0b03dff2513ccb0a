"""The text of a file, its tree, and the only edit: ``sockjs`` becomes ``sockjs_aio``.

If the result does not parse to the intended tree, the edit is refused.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Sequence


class Source:
    """The text of a file, and the positions in it of its tree's nodes."""

    def __init__(self, raw: bytes) -> None:
        lines = re.sub(rb"\r\n?", b"\n", raw)  # detect_encoding knows only \n
        self.encoding: str
        self.encoding, _ = tokenize.detect_encoding(io.BytesIO(lines).readline)
        self.text: str = raw.decode(self.encoding)
        self._starts = [0] + [end.end() for end in re.finditer(r"\r\n|\r|\n", self.text)]
        self.tree: ast.Module = ast.Module([], [])

    def parse(self) -> None:
        """Make the tree.

        Raises:
            SyntaxError: If the text is not valid Python 3.
        """
        self.tree = _parse(self.text)

    def word(self, node: "Place") -> int | None:
        """Return the index of the word ``sockjs`` that `node` begins with, or None."""
        start = self._starts[node.lineno - 1]
        column = node.col_offset  # in bytes of UTF-8
        start += len(self.text[start : start + column].encode()[:column].decode(errors="ignore"))
        if isinstance(node, ast.ImportFrom):
            keyword = re.compile(r"from(?:[ \t\f]|\\(?:\r\n|\r|\n))+").match(self.text, start)
            start = keyword.end() if keyword else -1
        return start if start >= 0 and self.text.startswith("sockjs", start) else None

    def rewrite(self, places: "Sequence[Place]", raw: bytes) -> bytes:
        """Return the content with ``sockjs_aio`` at each of `places`; `raw` is the present one.

        Raises:
            ValueError: If that would change anything else.
        """
        if self.text.encode(self.encoding) != raw:
            raise ValueError(f"saving it as {self.encoding} would change other bytes")
        text = self.text
        for at in sorted({self.word(place) or 0 for place in places}, reverse=True):
            text = f"{text[:at]}sockjs_aio{text[at + 6 :]}"
        for place in places:
            _rename(place)
        if _shape(_parse(text)) != _shape(self.tree):
            raise ValueError("rewriting it would change more than names")
        return text.encode(self.encoding)


Place = ast.Name | ast.alias | ast.ImportFrom


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():  # about escapes in strings, for example
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _rename(node: Place) -> None:
    if isinstance(node, ast.Name):
        node.id = "sockjs_aio"
    elif isinstance(node, ast.alias):
        node.name = node.name.replace("sockjs", "sockjs_aio", 1)
    else:
        node.module = (node.module or "").replace("sockjs", "sockjs_aio", 1)


def _shape(tree: ast.AST) -> list[object]:
    """Return a tree without positions, to compare with another; does not recurse."""

    def plain(value: object) -> object:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return type(value) if isinstance(value, ast.AST) else repr(value)

    return [(type(n), [plain(value) for _, value in ast.iter_fields(n)]) for n in ast.walk(tree)]
