"""What the documentation shows is what there is."""

import ast
import dataclasses
import re
import textwrap
from pathlib import Path
from typing import get_args

import pytest

from sockjs_aio import Settings, SettingsError, SockJSConnection, SockJSRouter
from sockjs_aio.close_info import EXPIRED, LOST, STALLED, UNANSWERED, Initiator
from sockjs_aio.protocol.frames import INTERNAL_ERROR, SERVICE_RESTART, SLOW_CONSUMER
from sockjs_aio.protocol.machine import State

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "haproxy/README.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_readme_shows_the_echo_example() -> None:
    assert (ROOT / "examples/echo.py").read_text() in blocks(ROOT / "README.md", "python")


def test_readme_shows_the_error_that_comes() -> None:
    (session,) = blocks(ROOT / "README.md", "pycon")
    with pytest.raises(SettingsError) as error:
        SockJSRouter(SockJSConnection, "/echo", {"disconect_delay": 10})
    assert f"sockjs_aio.errors.SettingsError: {error.value}" in session


def test_every_setting_is_documented_with_its_default() -> None:
    table = dict(
        re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs/settings.md").read_text(), re.M)
    )
    fields = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert list(table) == list(fields)
    for name, default in fields.items():
        if name != "sockjs_url":
            assert ast.literal_eval(table[name].strip("`")) == default, name


def test_every_state_is_documented() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \|", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert rows == [state.name for state in State]


def test_every_end_is_documented() -> None:
    text = (ROOT / "docs/lifecycle.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \|", text, re.M)
    assert {initiator for initiator, _ in rows} == set(get_args(Initiator))
    ends = [LOST, EXPIRED, UNANSWERED, STALLED]
    ends += [(*SLOW_CONSUMER, "overflow"), (*SERVICE_RESTART, "shutdown")]
    ends += [(*INTERNAL_ERROR, "error")]
    for code, reason, initiator in ends:
        assert (initiator, f"`{code} {reason}`") in rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_docs_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(textwrap.dedent(block), str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_module_is_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for path in (ROOT / "sockjs_aio").rglob("*.py"):
        if path.stem not in ("__init__", "headers", "callback", "body"):
            assert re.search(rf"`{path.stem}(\.py)?`", text), path.stem


def test_every_promise_names_tests_that_exist() -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    rows = (ROOT / "docs/promises.md").read_text().split("| --- | --- | --- |\n")[1].splitlines()
    for row in rows:
        names = re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", row.split(" | ")[2])
        assert names, row
        for name in names:
            assert f"def {name}(" in tests or (ROOT / name).is_file(), name
