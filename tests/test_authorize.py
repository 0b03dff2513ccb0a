"""Who is let in by cookie or token, with the example's application on every transport."""

import json
import logging
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.log import access_logger
from aiohttp.test_utils import TestClient, TestServer

from examples import authorize as example
from examples.authorize import BROKER, COOKIES, DAY, TOKENS, make_app
from examples.authorize.signing import Signer
from tests import clients
from tests.conftest import Echo, Serve, Served
from tests.openers import ask, openers

KEY = b"0123456789abcdef"
ORIGIN = "http://localhost"
FROM_PAGE = {"Origin": ORIGIN}

every = pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
http = pytest.mark.parametrize("kind", clients.HTTP, ids=lambda kind: kind.name)
Kind = type[clients.Client]
Start = Callable[[str], Awaitable[Served]]


@pytest.fixture
def start(serve: Serve) -> Start:
    """Run the example; the result asks one of its services."""

    async def start(prefix: str) -> Served:
        app = make_app([ORIGIN], KEY, allow_jsonp_and_frames=True)
        served = await serve(Echo, app=app)
        served.prefix = prefix
        return served

    return start


def cookie(value: str) -> dict[str, str]:
    return {**FROM_PAGE, "Cookie": f"user={value}"}


def signed(purpose: str, user: str, seconds: float = 60) -> str:
    return Signer(KEY, purpose, seconds).sign(user)


def with_token(path: str, token: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}token={token}"


async def logged_in(served: Served, user: str) -> dict[str, str]:
    """Log in as the page does; return the headers of its later requests."""
    form = {"user": user, "password": example.PASSWORDS[user]}
    url = f"{served.origin}/login"
    async with served.session.post(url, data=form) as response:
        assert response.status == 200
        assert response.cookies["user"]["httponly"]
        assert response.cookies["user"]["samesite"] == "Lax"
        assert int(response.cookies["user"]["max-age"]) == DAY
        value = response.cookies["user"].value
    served.session.cookie_jar.clear()
    return cookie(value)


def bad(purpose: str) -> dict[str, str]:
    """Make what nobody is let in by."""
    good = signed(purpose, "ann")
    payload, signature = good.split(".")
    return {
        "expired": signed(purpose, "ann", -1),
        "signed for something else": signed("other", "ann"),
        "signed with another key": Signer(b"other", purpose, 60).sign("ann"),
        "another user's name": f"{signed(purpose, 'bob').split('.')[0]}.{signature}",
        "no signature": payload + ".",
        "no name": "." + signature,
        "cut": good[:-1],
        "longer": good + "0",
        "not even text": "%FF%00.%FF",
        "empty": "",
    }


# With a cookie.


@every
async def test_who_has_logged_in_is_let_in(start: Start, kind: Kind) -> None:
    served = await start("/account")
    for user in ("ann", "bob"):
        client = await kind.open(served, headers=await logged_in(served, user))
        assert await client.messages(1) == [f"Hello, {user}!"]
        await client.send("hi")
        assert await client.messages(1) == [f"{user} says: hi"]
        await client.leave()


@openers
async def test_who_has_not_logged_in_is_401(start: Start, method: str, path: str) -> None:
    served = await start("/account")
    assert (await ask(served, method, path, **FROM_PAGE)).status == 401
    for what, value in bad("cookie").items():
        assert (await ask(served, method, path, **cookie(value))).status == 401, what
    token = signed("token", "ann")
    assert (await ask(served, method, with_token(path, token), **cookie(token))).status == 401
    await assert_nobody_came_in(served)


@pytest.mark.parametrize("form", [{}, {"user": "ann"}, {"user": "ann", "password": "banana"}])
async def test_wrong_password_gives_no_cookie(start: Start, form: dict[str, str]) -> None:
    served = await start("/account")
    url = f"{served.origin}/login"
    async with served.session.post(url, data=form) as response:
        assert response.status == 403
        assert not response.cookies


@every
async def test_logging_out_ends_the_users_sessions_alone(start: Start, kind: Kind) -> None:
    served = await start("/account")
    ann, bob = await logged_in(served, "ann"), await logged_in(served, "bob")
    leaving = await kind.open(served, headers=ann)
    staying = await kind.open(served, headers=bob)
    assert await leaving.messages(1) == ["Hello, ann!"]
    assert await staying.messages(1) == ["Hello, bob!"]
    url = f"{served.origin}/logout"
    async with served.session.post(url, headers=ann) as response:
        assert response.cookies["user"].value == ""
    assert await leaving.frame() == b'c[4001,"Logged out"]' or kind.name == "rawwebsocket"
    await staying.send("hi")
    assert await staying.messages(1) == ["bob says: hi"]
    await leaving.leave()
    await staying.leave()


# With a token.


@every
async def test_who_has_a_token_is_let_in(start: Start, kind: Kind) -> None:
    served = await start("/orders")
    url = f"{served.origin}/token"
    async with served.session.post(url) as response:
        assert response.status == 401
    async with served.session.post(url, headers=await logged_in(served, "ann")) as response:
        token = await response.text()
    client = await kind.open(served, headers=FROM_PAGE, query=f"token={token}")
    assert await client.messages(1) == ["Hello, ann!"]
    await client.send("hi")
    assert await client.messages(1) == ["ann says: hi"]
    await client.leave()


@every
async def test_token_has_to_be_good_at_the_opening_only(start: Start, kind: Kind) -> None:
    served = await start("/orders")
    tokens = served.app[TOKENS]
    client = await kind.open(served, headers=FROM_PAGE, query=f"token={tokens.sign('ann')}")
    assert await client.messages(1) == ["Hello, ann!"]
    tokens.key = b"another one"  # so that all that were made before are bad
    await client.send("hi")
    assert await client.messages(1) == ["ann says: hi"]
    await client.leave()


@openers
async def test_who_has_no_good_token_is_401(start: Start, method: str, path: str) -> None:
    served = await start("/orders")
    assert (await ask(served, method, path, **FROM_PAGE)).status == 401
    for what, token in bad("token").items():
        assert (await ask(served, method, with_token(path, token), **FROM_PAGE)).status == 401, what
    ann = cookie(signed("cookie", "ann"))
    assert (await ask(served, method, path, **ann)).status == 401
    await assert_nobody_came_in(served)


@openers
async def test_who_has_a_token_and_no_right_is_403(start: Start, method: str, path: str) -> None:
    served = await start("/orders")
    path = with_token(path, signed("token", "bob"))
    assert (await ask(served, method, path, **FROM_PAGE)).status == 403
    await assert_nobody_came_in(served)


async def assert_nobody_came_in(served: Served) -> None:
    assert await served.post("/0/1", "[]", headers=FROM_PAGE) == 404
    assert not served.app[BROKER].channels


async def test_aiohttps_access_log_has_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = make_app([ORIGIN], KEY)
    async with TestClient(TestServer(app, access_log=access_logger)) as client:
        assert (await client.post("/orders/0/1/xhr?token=s3cret")).status == 401
    assert "s3cret" in caplog.text


# Once for each session.


@every
async def test_authorize_is_asked_once_and_not_for_sends(serve: Serve, kind: Kind) -> None:
    asked = []

    async def authorize(request: web.Request) -> bool:
        asked.append(request.path)
        return True

    served = await serve(Echo, authorize=authorize)
    client = await kind.open(served)
    for text in ("a", "b", "c"):  # with polls that is a request for each
        await client.send(text)
        assert await client.messages(1) == [text]
    await client.leave()
    assert len(asked) == 1


@http
async def test_example_keeps_sessions_to_their_users(start: Start, kind: Kind) -> None:
    served = await start("/account")
    client = await kind.open(served, headers=await logged_in(served, "ann"))
    bob = await logged_in(served, "bob")
    for headers in (bob, FROM_PAGE):
        assert await served.post(client.path, '["a"]', headers=headers) == 403
    await client.leave()
    served.prefix = "/orders"
    token = served.app[TOKENS].sign("ann")
    client = await kind.open(served, headers=FROM_PAGE, query=f"token={token}")
    assert await served.post(client.path, '["a"]', headers=FROM_PAGE) == 403
    await client.leave()


async def test_cookies_and_tokens_are_not_each_other(start: Start) -> None:
    app = (await start("/account")).app
    assert app[COOKIES].user(app[COOKIES].sign("\u00e4nn")) == "\u00e4nn"
    assert app[TOKENS].user(app[COOKIES].sign("ann")) is None
    assert json.dumps(app[TOKENS].sign("\u00e4nn")).isascii()
