"""A chat on one page: ``python -m examples.chat``, then open http://127.0.0.1:8080/.

Browser and server speak JSON inside the SockJS messages.  The page sends ``join`` (again to change
the name), ``say`` and ``leave``; it gets ``welcome``, ``joined``, ``left`` and ``said``.
"""

import json
import secrets
import string
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from sockjs_aio import ConnectionInfo, Session, SockJSConnection, SockJSRouter

NAME_LENGTH = 24
TEXT_LENGTH = 1000
HISTORY_LENGTH = 50

PAGE = Path(__file__).parent / "page"
SOCKJS_CLIENT = (
    Path(__file__).parents[2] / ".venv/npm/node_modules/sockjs-client/dist/sockjs.min.js"
)
CDN = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"


class Room:
    """Who is here, and what was said last."""

    def __init__(self) -> None:
        self.visitors: set[Visitor] = set()
        self.history: deque[Mapping[str, Any]] = deque(maxlen=HISTORY_LENGTH)

    @property
    def users(self) -> list[Mapping[str, Any]]:
        return [visitor.user for visitor in self.visitors if visitor.name]


class Visitor(SockJSConnection):
    """One open page; a user of the chat as soon as it has a name."""

    name = ""

    def __init__(self, session: Session, room: Room) -> None:
        super().__init__(session)
        self.room = room
        self.id = secrets.token_hex(8)

    @property
    def user(self) -> Mapping[str, Any]:
        return {"id": self.id, "name": self.name, "transport": self.info.transport}

    async def on_open(self, info: ConnectionInfo) -> None:
        room = self.room
        room.visitors.add(self)
        welcome = {"type": "welcome", "you": self.id, "users": room.users}
        self.send(json.dumps({**welcome, "history": list(room.history)}))

    async def on_message(self, message: str | bytes) -> None:
        match parse(message):
            case {"type": "join", "name": str(name)}:
                self.join(name)
            case {"type": "say", "text": str(text)}:
                self.say(text)
            case {"type": "leave"}:
                self.close()

    async def on_close(self) -> None:
        self.room.visitors.discard(self)
        if self.name:
            self.tell_all("left", id=self.id)

    def join(self, name: str) -> None:
        # Without what cannot be seen, nobody can look like somebody else by it.
        name = " ".join("".join(filter(str.isprintable, name)).split())
        if 0 < len(name) <= NAME_LENGTH:
            self.name = name
            self.tell_all("joined", user=self.user)

    def say(self, text: str) -> None:
        text = text.strip()
        if self.name and 0 < len(text) <= TEXT_LENGTH:
            said = {"from": self.id, "name": self.name, "text": text, "time": time.time()}
            said["id"] = secrets.token_hex(8)  # the page knows by it what it has shown already
            self.room.history.append(said)
            self.tell_all("said", **said)

    def tell_all(self, event: str, **details: Any) -> None:
        self.broadcast(self.room.visitors, json.dumps({"type": event, **details}))


def parse(message: str | bytes) -> Any:
    """Read JSON; what is not JSON becomes None, as nobody has to send what the page sends."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def make_app(sockjs_client: Path = SOCKJS_CLIENT) -> web.Application:
    """Make the application; without the file `sockjs_client`, pages load the script from a CDN."""
    app = web.Application()
    sockjs_url = CDN
    if sockjs_client.is_file():
        sockjs_url = "/sockjs.min.js"
        app.router.add_get(sockjs_url, partial(send_file, sockjs_client))

    # The iframe transports load the script once more: it has to be the page's.
    settings = {"sockjs_url": sockjs_url, "heartbeat_delay": 10, "max_message_size": 16384}
    SockJSRouter(partial(Visitor, room=Room()), "/chat", settings).attach(app)

    page = string.Template((PAGE / "index.html").read_text(encoding="utf-8")).substitute(
        sockjs_url=sockjs_url, name_length=NAME_LENGTH, text_length=TEXT_LENGTH
    )
    app.router.add_get("/", partial(send_page, page))
    app.router.add_static("/page/", PAGE)
    return app


async def send_page(page: str, request: web.Request) -> web.Response:
    return web.Response(text=page, content_type="text/html", headers={"Cache-Control": "no-cache"})


async def send_file(path: Path, request: web.Request) -> web.FileResponse:
    return web.FileResponse(path)
