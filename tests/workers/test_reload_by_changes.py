"""``serve --reload``: the code is loaded again when one of its files has changed."""

import argparse
import asyncio
import os
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sockjs_aio import Drain
from sockjs_aio.cluster.workers.command import drain_of
from sockjs_aio.cluster.workers.source_watch import (
    SourceWatch,
    failed_directories,
    imported_directories,
)
from tests import clients
from tests.workers.commanding import PATIENCE, Command
from tests.workers.conftest import RunCommand

pytestmark = pytest.mark.timeout(3 * PATIENCE)

APP = """
from aiohttp import web
from shop.words import WORD
from sockjs_aio import SockJSConnection, SockJSRouter

class Echo(SockJSConnection):
    async def on_message(self, message):
        self.send(WORD)

def make():
    app = web.Application()
    SockJSRouter(Echo, "/echo").attach(app)
    return app
"""


class Project:
    """A package in a directory, as someone writes it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, text: str) -> None:
        """Save a file in the way of many editors: a new one takes the place of the old one."""
        file = self.directory / "shop" / name
        file.parent.mkdir(exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(textwrap.dedent(text))
        new.replace(file)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write("__init__.py", "")
    made.write("app.py", APP)
    made.write("words.py", "WORD = 'one'")
    return made


Serve = Callable[..., Awaitable[Command]]


@pytest.fixture
def reloading(command: RunCommand, project: Project) -> Serve:
    async def run(**options: Any) -> Command:
        root = Path(__file__).parents[2]
        path = os.pathsep.join([str(project.directory), str(root)])
        environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        return await command("--reload", target="shop.app:make", environment=environment, **options)

    return run


async def word(served: Command) -> str:
    client = await clients.WebSocket.open(served)
    await client.send("?")
    (answer,) = await client.messages(1)
    await client.leave()
    return str(answer)


@pytest.mark.parametrize(
    "kind", [clients.WebSocket, clients.XhrStreaming, clients.Xhr], ids=lambda kind: kind.name
)
async def test_sessions_are_told_of_a_restart_and_get_the_new_code(
    reloading: Serve, project: Project, kind: type[clients.Client]
) -> None:
    served = await reloading(workers=1)
    client = await kind.open(served)
    await client.send("?")
    assert await client.messages(1) == ["one"]
    project.write("words.py", "WORD = 'another'")
    assert await client.frame() == b'c[1012,"Service restart"]'
    assert await word(served) == "another"
    assert f"{project.directory}/shop/words.py changed" in served.said
    assert await served.stop() == 0


async def test_all_workers_are_reloaded_once(reloading: Serve, project: Project) -> None:
    served = await reloading(workers=2)
    project.write("words.py", "WORD = 'another'")
    await served.until_said("all workers are new")
    assert {await word(served) for _ in range(8)} == {"another"}
    assert served.said.count("reloading, one worker at a time") == 1
    assert await served.stop() == 0


async def test_a_syntax_error_leaves_the_old_code_and_is_shown(
    reloading: Serve, project: Project
) -> None:
    served = await reloading(workers=1)
    project.write("words.py", "WORD = 'another")
    await served.until_said("the old workers keep running")
    assert "SyntaxError" in served.said and "WORD = 'another" in served.said
    assert await word(served) == "one"
    project.write("words.py", "WORD = 'mended'")
    await served.until_said("all workers are new")
    assert await word(served) == "mended"
    assert await served.stop() == 0


async def test_what_cannot_start_is_started_when_it_has_been_mended(
    reloading: Serve, project: Project
) -> None:
    project.write("app.py", APP + "\nfrom shop.later import X\n")
    served = await reloading(workers=1, wait=False)
    await served.until_said("waiting for changes")
    assert "No module named 'shop.later'" in served.said
    project.write("later.py", "X = 1 +")
    await served.until_said("waiting for changes", 2)
    project.write("later.py", "X = 1 + 1")
    line = await served.until_said(r"serves http://127\.0\.0\.1:(\d+)")
    served.port = int(line[1])
    assert await word(served) == "one"
    assert await served.stop() == 0


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"reload": True}, Drain(notice=0, over=0)),
        ({"reload": True, "drain_over": 3}, Drain(notice=0, over=3)),
        ({"reload": False, "drain_limit": 7}, Drain(limit=7)),
    ],
)
def test_a_drain_is_short_unless_it_is_told_otherwise(
    given: dict[str, Any], expected: Drain
) -> None:
    times = dict.fromkeys(("drain_notice", "drain_over", "drain_limit"))
    assert drain_of(argparse.Namespace(**{**times, **given})) == expected


async def test_without_the_option_no_change_matters(command: RunCommand, project: Project) -> None:
    path = os.pathsep.join([str(project.directory), str(Path(__file__).parents[2])])
    served = await command(target="shop.app:make", environment={"PYTHONPATH": path}, workers=1)
    project.write("words.py", "WORD = 'another'")
    await asyncio.sleep(1.5)  # three looks
    assert await word(served) == "one"
    assert await served.stop() == 0


# What is looked at.


def test_changed_new_and_lost_files_are_changes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    (tmp_path / "b.py").write_text("")
    watch = SourceWatch()
    watch.add([str(tmp_path)], since=2**62)
    assert watch.changes() == []
    os.utime(tmp_path / "a.py", (1, 1))
    (tmp_path / "b.py").unlink()
    (tmp_path / "c.py").write_text("")
    (tmp_path / "page.html").write_text("")
    assert watch.changes() == [str(tmp_path / name) for name in ("a.py", "b.py", "c.py")]
    assert watch.changes() == []


def test_what_changed_while_it_was_imported_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("")
    os.utime(tmp_path / "old.py", (1, 1))
    (tmp_path / "new.py").write_text("")
    watch = SourceWatch()
    watch.add([str(tmp_path)], since=2 * 10**9)
    assert watch.changes() == [str(tmp_path / "new.py")]
    watch.add([str(tmp_path)], since=2 * 10**9)
    assert watch.changes() == []


def test_a_directory_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    watch = SourceWatch()
    watch.add([str(tmp_path / "gone")], since=0)
    assert watch.changes() == []


def test_own_modules_are_looked_at_and_libraries_are_not() -> None:
    found = imported_directories()
    assert str(Path(__file__).parent) in found
    for library in (asyncio, pytest):
        assert str(Path(library.__file__ or "").parent) not in found


def test_a_module_that_cannot_be_imported_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outer.py").write_text("import inner")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "inner.py").write_text("x = (")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(tmp_path / "inside")])
    with pytest.raises(SyntaxError) as error:
        __import__("outer")
    assert {str(tmp_path), str(tmp_path / "inside")} <= failed_directories(error.value)
