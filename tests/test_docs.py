"""What the documentation shows is what there is."""

import ast
import dataclasses
import re
import textwrap
from pathlib import Path
from typing import get_args

import pytest

from sockjs_aio import Settings, SettingsError, SockJSConnection, SockJSRouter
from sockjs_aio.client import ClientOptions
from sockjs_aio.protocol import ends
from sockjs_aio.protocol.ends import Initiator
from sockjs_aio.protocol.frames import close_frame
from sockjs_aio.protocol.session_state import State
from sockjs_aio.protocol.transports import TRANSPORTS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += [ROOT / "haproxy/README.md", ROOT / "examples/cluster/README.md"]


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


def test_every_option_of_the_client_is_documented_with_its_default() -> None:
    text = (ROOT / "docs/python-client.md").read_text()
    table = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.M)
    fields = dataclasses.fields(ClientOptions)
    assert table == [(field.name, str(field.default)) for field in fields]


def test_every_state_is_documented() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \|", (ROOT / "docs/architecture.md").read_text(), re.M)
    assert rows == [state.name for state in State]


def end_rows() -> list[tuple[str, str, str]]:
    """Return initiator, code with reason, and what the client gets, of each row."""
    text = (ROOT / "docs/lifecycle.md").read_text()
    return re.findall(r"^\| `(\w+)` \| .*? \| (.*?) \| (.*) \|$", text, re.M)


def test_every_end_is_documented() -> None:
    rows = [(initiator, said) for initiator, said, _ in end_rows()]
    assert {initiator for initiator, _ in rows} == set(get_args(Initiator))
    codes_of_violations = next(said for initiator, said in rows if said.startswith("1002, "))
    for code, reason, initiator in ends.ENDS:
        if (code, reason, initiator) == ends.GO_AWAY:
            assert any(f"`{code} {reason}`" in said for who, said in rows if who == initiator)
        elif initiator == "error" and code != ends.HOOK_FAILED.code:
            assert str(code) in codes_of_violations
        else:
            assert (initiator, f"`{code} {reason}`") in rows


def test_every_end_is_documented_with_the_frame_that_the_client_gets() -> None:
    gets = {said.strip("`"): frame for _, said, frame in end_rows()}
    told: dict[ends.End, tuple[int, str]] = {
        ends.LOST: ends.INTERRUPTED,
        ends.EXPIRED: ends.SESSION_EXPIRED,
    }
    told |= {end: end[:2] for end in (ends.SLOW_CONSUMER, ends.SERVICE_RESTART, ends.HOOK_FAILED)}
    for (code, reason, _), frame in told.items():
        assert f"`{close_frame(*frame).decode()}`" in gets[f"{code} {reason}"]


def test_every_transport_is_documented() -> None:
    text = (ROOT / "docs/protocol.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (GET|POST) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.M)
    assert [name for name, *_ in rows] == list(TRANSPORTS)
    for name, method, does, switch, restricted in rows:
        row = TRANSPORTS[name]
        assert row.method == method
        assert row.receives is ("receives" in does)
        assert (row.dress is not None) is ("stream" in does)
        named = {"by its name": name, "no": None}
        assert row.switch == (named[switch] if switch in named else switch.split("`")[1])
        assert row.tells_origin is (restricted == "served") or row.switch is None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_docs_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(textwrap.dedent(block), str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}#{anchor}"


def test_every_page_of_the_docs_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert f"](docs/{page.name}" in readme, page.name


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = [
        (page.name, x) for page in PAGES for x in re.findall(r"`make ([a-z-]+)", page.read_text())
    ]
    assert len(named) > 20
    for page_name, target in named:
        assert target in targets, (page_name, target)


def test_clean_deletes_all_that_git_ignores() -> None:
    (recipe,) = re.findall(r"^clean:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    for line in (ROOT / ".gitignore").read_text().split():
        name = line.strip("/").replace(".venv*", "$(VENV)-*")
        assert re.search(rf"\s{re.escape(name)}\s", recipe) or name == "node_modules", line


def test_contributing_names_paths_that_exist() -> None:
    text = (ROOT / "docs/contributing.md").read_text()
    paths = re.findall(r"`((?:tests|\.ci)/[\w/]*(?:\.py)?)`", text)
    assert len(paths) > 50
    for path in paths:
        assert (ROOT / path).exists(), path


def test_every_module_is_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "sockjs_aio"
    modules = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if path.stem != "__init__"
    }
    assert set(re.findall(r"^\| `([\w/]+\.py)` \|", text, re.M)) == modules


def test_every_promise_names_tests_that_exist() -> None:
    tests = "\n".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    lines = (ROOT / "docs/promises.md").read_text().splitlines()
    rows = [x for x in lines if x.startswith("| ") and not x.endswith((" | tests |", " --- |"))]
    assert len(rows) > 30
    for row in rows:
        names = re.findall(r"`(test_\w+|tests/[\w/]+\.py)`", row.split(" | ")[-1])
        assert names, row
        for name in names:
            assert f"def {name}(" in tests or (ROOT / name).is_file(), name
