"""A chat on one page: ``python -m examples.chat``, then open http://127.0.0.1:8080/.

Browser and server speak JSON inside the SockJS messages.  The page sends ``join`` (again to change
the name), ``say`` and ``leave``; it gets ``welcome``, ``joined``, ``left`` and ``said``.

Who comes back within `RETURN_DELAY`, over another transport or with the page loaded anew, was never
away for the others.  A tab that is closed has left after that time; one that has vanished with its
machine when the server notices, see docs/lifecycle.md.
"""

import asyncio
import hashlib
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
RETURN_DELAY = 5  # seconds

PAGE = Path(__file__).parent / "page"
SOCKJS_CLIENT = (
    Path(__file__).parents[2] / ".venv/npm/node_modules/sockjs-client/dist/sockjs.min.js"
)
CDN = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"


class Room:
    """Who is here, and what was said last."""

    def __init__(self) -> None:
        self.visitors: set[Visitor] = set()
        self.users: dict[str, Mapping[str, Any]] = {}
        self.leaving: dict[str, asyncio.TimerHandle] = {}
        self.history: deque[Mapping[str, Any]] = deque(maxlen=HISTORY_LENGTH)


class Visitor(SockJSConnection):
    """One open page; a user of the chat as soon as it has a name."""

    name = ""

    def __init__(self, session: Session, room: Room) -> None:
        super().__init__(session)
        self.room = room
        # what the page calls itself stays secret, so that nobody else comes back as it
        page = session.info.query.get("page") or secrets.token_hex()
        self.id = hashlib.sha256(page.encode(errors="replace")).hexdigest()[:16]

    async def on_open(self, info: ConnectionInfo) -> None:
        room = self.room
        room.visitors.add(self)
        if self.id in room.leaving:
            room.leaving.pop(self.id).cancel()
        welcome = {"type": "welcome", "you": self.id, "users": list(room.users.values())}
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
        room = self.room
        room.visitors.discard(self)
        if self.id in room.users and all(visitor.id != self.id for visitor in room.visitors):
            later = asyncio.get_running_loop().call_later
            room.leaving[self.id] = later(RETURN_DELAY, self.leave)

    def leave(self) -> None:
        del self.room.leaving[self.id], self.room.users[self.id]
        self.tell_all("left", id=self.id)

    def join(self, name: str) -> None:
        # Without what cannot be seen, nobody can look like somebody else by it.
        name = " ".join("".join(filter(str.isprintable, name)).split())
        if 0 < len(name) <= NAME_LENGTH:
            self.name = name
            user = {"id": self.id, "name": name, "transport": self.info.transport}
            self.room.users[self.id] = user
            self.tell_all("joined", user=user)

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
