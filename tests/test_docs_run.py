"""Code that the documentation shows, run as it stands, with clients."""

import asyncio
import re
import unittest
from typing import Any, ClassVar

import pytest
from aiohttp import web

import sockjs_aio
from sockjs_aio import client
from sockjs_aio.testing import ClientFactory
from tests import clients
from tests.conftest import Echo, Serve, Served
from tests.test_docs import ROOT, blocks


def run(page: str, part: str, **names: Any) -> dict[str, Any]:
    """Run the block of `page` that has `part`; it finds the package's names and `names`."""
    (code,) = [block for block in blocks(ROOT / page, "python") if part in block]
    public = {name: getattr(sockjs_aio, name) for name in sockjs_aio.__all__}
    namespace = {"__name__": "shown", "web": web, **public, **names}
    exec(compile(code, page, "exec"), namespace)
    return namespace


async def served_at(serve: Serve, prefix: str, app: web.Application) -> Served:
    served = await serve(prefix="/other", app=app)
    served.prefix = prefix
    return served


async def test_readmes_chat_tells_all(serve: Serve) -> None:
    app = web.Application()
    run("README.md", "self.broadcast", app=app)
    served = await served_at(serve, "/chat", app)
    people = [await kind.open(served) for kind in clients.SOCKJS]
    for person in people:
        await person.send("hello")
    for person in people:
        assert await person.messages(len(people)) == ["hello"] * len(people)
        await person.leave()


async def test_channels_of_the_multiplex_page_answer(serve: Serve) -> None:
    app = web.Application()
    run("docs/multiplex.md", "Ann says hi!", app=app)
    client = await clients.WebSocket.open(await served_at(serve, "/multiplex", app))
    await client.send("sub,ann", "msg,ann,a,b", "sub,bob", "msg,bob,x")
    assert await client.messages(3) == ["msg,ann,Ann says hi!", "msg,ann,Ann nods: a,b", "uns,bob"]
    await client.leave()


async def test_guides_test_of_ones_own_code_passes() -> None:
    await run("docs/guide.md", "sockjs_aio.testing", Echo=Echo)["test_echo"]()


def room() -> dict[str, Any]:
    """Return the names that the page about tests defines for its tests."""
    return run("docs/testing.md", "def make_app")


TESTS_SHOWN = re.findall(r"async def (test_\w+)\(sockjs:", (ROOT / "docs/testing.md").read_text())


@pytest.mark.parametrize("name", TESTS_SHOWN)
async def test_tests_that_are_shown_pass(sockjs: ClientFactory, name: str) -> None:
    given = {x: room()[x] for x in ("Room", "make_app")}
    await run("docs/testing.md", name, **given)[name](sockjs)


NOTIFY = "docs/notify-a-user.md"
NOTIFY_TESTS = re.findall(r"async def (test_\w+)\(sockjs:", (ROOT / NOTIFY).read_text())


@pytest.mark.parametrize("name", NOTIFY_TESTS)
async def test_users_are_notified_as_the_guide_shows(sockjs: ClientFactory, name: str) -> None:
    service = run(NOTIFY, "def make_app")
    job = run(NOTIFY, "async def log_out")
    given = {x: service[x] for x in ("LOGINS", "make_app")} | {
        x: job[x] for x in ("notify", "log_out")
    }
    await run(NOTIFY, name, **given)[name](sockjs)


def test_notifying_a_user_takes_less_than_ninety_lines_with_its_tests() -> None:
    code = "\n".join(blocks(ROOT / NOTIFY, "python"))
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) < 90


async def test_tests_page_has_tests_with_aiohttps_client_and_unittest(aiohttp_client: Any) -> None:
    make_app = room()["make_app"]
    shown = run("docs/testing.md", "aiohttp_client", make_app=make_app)
    await shown["test_room"](aiohttp_client)
    case = run("docs/testing.md", "import unittest", make_app=make_app)["RoomTest"]
    result = unittest.TestResult()
    await asyncio.to_thread(case("test_echo").run, result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


async def test_contributings_test_passes(serve: Serve) -> None:
    names = {"pytest": pytest, "clients": clients, "Serve": Serve, "Echo": Echo}
    shown = run("docs/contributing.md", "test_messages_come_back", **names)
    for kind in clients.ALL:
        await shown["test_messages_come_back"](serve, kind)


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_guides_authorize_lets_in_who_has_a_token(
    serve: Serve, kind: type[clients.Client]
) -> None:
    async def find_user(token: str | None) -> str | None:
        return {"good": "Ann"}.get(token or "")

    class Chat(sockjs_aio.SockJSConnection):
        async def on_open(self, info: sockjs_aio.ConnectionInfo) -> None:
            self.send(f"Hello, {info.identity}!")

    app = web.Application()
    names = {"find_user": find_user, "User": str, "Chat": Chat, "SockJSRouter": router_on(app)}
    run("docs/guide.md", "find_user", **names)
    served = await served_at(serve, "/chat", app)
    client = await kind.open(served, query="token=good")
    assert await client.messages(1) == ["Hello, Ann!"]
    await client.leave()
    assert (await served.request("POST", "/0/1/xhr?token=bad", b"")).status == 401


class Restarting(Echo):
    """Answers, and ends each of its first connections with the next of `codes`."""

    codes: ClassVar[list[int]] = []

    async def on_message(self, message: str | bytes) -> None:
        self.send(message)
        self.close()

    async def on_open(self, info: sockjs_aio.ConnectionInfo) -> None:
        if self.codes:
            self.send("news")
            self.close(self.codes.pop(0), "the end")


def to(served: Served) -> Any:
    """Make what connects to `served`, whatever URL and session a block names."""

    def connect(_url: str, **options: Any) -> Any:
        options = {"session": served.session, **options}
        return client.connect(served.url(), **options)

    return connect


async def test_python_clients_blocks_run(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    served = await serve(Restarting)
    page = "docs/python-client.md"
    ask = run(page, "async def ask")
    ask["connect"] = to(served)
    await ask["ask"]("anybody there?")
    over_http = run(page, "over_http")
    over_http["connect"] = to(served)
    await over_http["over_http"]()
    Restarting.codes[:] = [1012, 4001]
    follow = run(page, "async def follow")
    follow["connect"] = to(served)
    await follow["follow"]()
    printed = capsys.readouterr().out
    assert printed == "anybody there?\nxhr_streaming\nnews\nnews\n"


def router_on(app: web.Application) -> Any:
    """Make what attaches each router to `app` that a block makes."""
    return lambda *arguments, **names: sockjs_aio.SockJSRouter(*arguments, **names).attach(app)
