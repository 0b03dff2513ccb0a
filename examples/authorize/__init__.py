"""Who may connect: run ``python -m examples.authorize``, then open http://127.0.0.1:8080/.

There are two services.  ``/account`` accepts users who have logged in: browsers send the cookie.
``/orders`` requires a token in the URL.  A token is valid for one minute, and the page fetches a
new one for each attempt to connect.  Pages of other origins could send a token too.
"""

import hmac
import secrets
import string
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from examples import chat, multiplex
from examples.authorize.signing import Signer
from sockjs_aio import Broker, ConnectionInfo, MemoryBroker, SockJSConnection, SockJSRouter

PASSWORDS = {"ann": "apple", "bob": "banana"}  # in place of a database table
STAFF = {"ann"}
DAY = 86400  # seconds
PAGE = Path(__file__).parent / "page"

COOKIES = web.AppKey("cookies", Signer)
TOKENS = web.AppKey("tokens", Signer)
BROKER = web.AppKey("broker", Broker)


class Desk(SockJSConnection):
    """Greets users by name; `by_cookie` or `by_token` provides the name."""

    async def on_open(self, info: ConnectionInfo) -> None:
        await self.subscribe(f"user:{info.identity}")
        self.send(f"Hello, {info.identity}!")

    async def on_message(self, message: str | bytes) -> None:
        self.send(f"{self.info.identity} says: {message!s}")


# With a cookie.


def cookie_user(request: web.Request) -> str | None:
    return request.app[COOKIES].user(request.cookies.get("user"))


async def by_cookie(request: web.Request) -> str:
    user = cookie_user(request)
    if user is None:
        raise web.HTTPUnauthorized(text="Log in first.\n")
    return user  # info.identity from here on


def same_user(request: web.Request, info: ConnectionInfo) -> bool:
    user: str = info.identity
    return cookie_user(request) == user


# With a token in the query.


async def by_token(request: web.Request) -> str:
    user = request.app[TOKENS].user(request.query.get("token"))
    if user is None:
        raise web.HTTPUnauthorized(text="This token is invalid or has expired.\n")
    if user not in STAFF:
        raise web.HTTPForbidden(text="Orders are for the staff.\n")
    return user


def same_token(request: web.Request, info: ConnectionInfo) -> bool:
    return request.query.get("token") == info.query.get("token")


# The application.


def make_app(
    origins: Collection[str],
    key: bytes = b"",
    sockjs_client: Path = chat.SOCKJS_CLIENT,
    **settings: Any,
) -> web.Application:
    """Make the application; without a `key`, users must log in again after a restart."""
    app = web.Application()
    key = key or secrets.token_bytes(32)
    app[COOKIES] = Signer(key, "cookie", DAY)
    app[TOKENS] = Signer(key, "token", 60)
    app[BROKER] = broker = MemoryBroker()  # with several processes: RedisBroker(url)
    add_page(app, sockjs_client)
    settings = {"origins": origins, "max_message_size": 16384, **settings}
    SockJSRouter(
        Desk, "/account", settings, authorize=by_cookie, verify=same_user, broker=broker
    ).attach(app)
    SockJSRouter(
        Desk, "/orders", settings, authorize=by_token, verify=same_token, broker=broker
    ).attach(app)
    return app


def add_page(app: web.Application, sockjs_client: Path) -> None:
    sockjs_url = chat.CDN
    if sockjs_client.is_file():
        sockjs_url = "/sockjs.min.js"
        app.router.add_get(sockjs_url, partial(chat.send_file, sockjs_client))
    page = string.Template((PAGE / "index.html").read_text(encoding="utf-8"))
    html = page.substitute(sockjs_script=chat.script_tag(sockjs_url))
    app.router.add_get("/", partial(chat.send_page, html))
    app.router.add_static("/page/", PAGE)
    app.router.add_static("/style/chat/", chat.PAGE)
    app.router.add_static("/style/multiplex/", multiplex.PAGE)
    app.router.add_get("/user", show_user)
    app.router.add_post("/login", log_in)
    app.router.add_post("/logout", log_out)
    app.router.add_post("/token", make_token)


async def show_user(request: web.Request) -> web.Response:
    return web.Response(text=cookie_user(request) or "", headers={"Cache-Control": "no-store"})


async def log_in(request: web.Request) -> web.Response:
    form = await request.post()
    user, password = str(form.get("user")), str(form.get("password"))
    expected = PASSWORDS.get(user, secrets.token_hex())
    if not hmac.compare_digest(password.encode(), expected.encode()):
        raise web.HTTPForbidden(text="Wrong user name or password.\n")
    response = web.Response(text=user)
    # add secure=True if you serve over TLS
    response.set_cookie(
        "user", request.app[COOKIES].sign(user), max_age=DAY, httponly=True, samesite="Lax"
    )
    return response


async def log_out(request: web.Request) -> web.Response:
    """Delete the cookie and close the user's sessions: `authorize` is not called again for them."""
    user = cookie_user(request)
    if user is not None:
        await request.app[BROKER].close_channel(f"user:{user}", 4001, "Logged out")
    response = web.Response()
    response.del_cookie("user", httponly=True, samesite="Lax")
    return response


async def make_token(request: web.Request) -> web.Response:
    user = await by_cookie(request)
    return web.Response(text=request.app[TOKENS].sign(user))
