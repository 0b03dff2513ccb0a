"""What docs/security.md shows is the example's, and the tests that it names are there."""

import ast
import dataclasses
import re

from sockjs_aio import Settings
from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs/security.md"


def test_code_is_that_of_the_example() -> None:
    source = ast.unparse(ast.parse((ROOT / "examples/authorize/__init__.py").read_text()))
    shown = [block for block in blocks(PAGE, "python") if "is_customer" not in block]
    assert len(shown) == 2
    for block in shown:
        for node in ast.parse(block).body:
            assert ast.unparse(node) in source


def test_tests_that_are_named_exist() -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    named = re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", PAGE.read_text())
    assert len(named) > 50
    for name in named:
        assert f"def {name}(" in tests or (ROOT / name).is_file(), name


def test_what_has_a_row_has_a_test() -> None:
    rows = 0
    for row in re.findall(r"^\| .* \|$", PAGE.read_text(), re.M):
        cells = row.strip("|").split(" | ")
        if len(cells) == 4 and cells[0].strip().startswith("`") and "SameSite" not in row:
            assert "`test_" in cells[3], row
            rows += 1
    assert rows > 10


def test_limits_are_settings() -> None:
    text = PAGE.read_text()
    table = text[text.index("## Limits") : text.index("## Channels")]
    rows = re.findall(r"^\| (`\w+`[^|]*)\|", table, re.M)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert set(names) <= {field.name for field in dataclasses.fields(Settings)}
    limits = {"max_", "limit", "timeout", "_delay"}
    for field in dataclasses.fields(Settings):
        if any(part in field.name for part in limits):
            assert field.name in names
