"""A chat on one page: run ``python -m examples.chat``, then open http://127.0.0.1:8080/.

Page and server exchange JSON in SockJS messages.  The page sends ``join`` (again to change the
name), ``say`` and ``leave``; it receives ``welcome``, ``joined``, ``left``, ``present`` and
``said``.

Everything said is published to a channel, and the channel's members are the people who are here.
With a broker for several processes, people on several nodes chat with each other.

If someone returns within `RETURN_DELAY`, over another transport or after a reload, the others do
not notice.  Someone who closes the tab leaves after that time.  If a machine vanishes, its user
leaves when the server notices; see docs/lifecycle.md.
"""

import asyncio
import contextlib
import hashlib
import json
import secrets
import string
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from sockjs_aio import (
    Broker,
    ConnectionInfo,
    MemoryBroker,
    PreparedMessage,
    Session,
    SockJSConnection,
    SockJSRouter,
    healthz,
    readyz,
)

NAME_LENGTH = 24
TEXT_LENGTH = 1000
HISTORY_LENGTH = 50
RETURN_DELAY = 5  # seconds
PRESENCE_INTERVAL = 2.5
CHANNEL = "chat"
HEARTBEAT_DELAY = 10.0
SILENCE = 2.5  # heartbeats that a page misses before it reconnects

PAGE = Path(__file__).parent / "page"
SOCKJS_CLIENT = (
    Path(__file__).parents[2] / ".venv/npm/node_modules/sockjs-client/dist/sockjs.min.js"
)
CDN = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"
INTEGRITY = "sha384-svdnwiXBL+Js+yUneJSRFy24NgGiOfDM/vkQl/vCeVrcbYD6yW8EwPr1FnxTEZsR"


class Room:
    """Who is here and what was said last, on all nodes; it receives the same messages as pages."""

    def __init__(self, broker: Broker, node: str = "") -> None:
        self.broker = broker
        self.node = node
        self.users: dict[str, Mapping[str, Any]] = {}
        self.history: deque[Mapping[Any, Any]] = deque(maxlen=HISTORY_LENGTH)
        # people on this node
        self.members: dict[str, str] = {}
        self.open_pages: Counter[str] = Counter()
        self.leaving: dict[str, asyncio.Task[None]] = {}

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        match json.loads(message.message):
            case {"type": "said", **said}:
                self.history.append(said)
            case {"type": "joined", "user": user}:
                self.users[user["id"]] = user
            case {"type": "left", "id": user_id}:
                self.users.pop(user_id, None)

    def take_in(self, user: Mapping[str, Any]) -> None:
        """Add `user`, replacing an older entry of the same user."""
        member = json.dumps({**user, "since": time.time()})
        self.broker.join(CHANNEL, member)
        self.let_go(user["id"])
        self.members[user["id"]] = member

    def let_go(self, user_id: str) -> None:
        if user_id in self.members:
            self.broker.leave(CHANNEL, self.members.pop(user_id))

    async def present(self) -> dict[str, Mapping[str, Any]]:
        """Ask the broker who is here; if someone moved to another node, the latest entry counts."""
        members = map(json.loads, await self.broker.members(CHANNEL))
        users = sorted(members, key=lambda user: user.pop("since"))
        return {user["id"]: user for user in users}

    async def work(self, _app: web.Application) -> AsyncIterator[None]:
        """Follow the channel while the application runs."""
        self.broker.start(self)
        self.broker.subscribe(CHANNEL, self)
        await self.broker.ready(CHANNEL)
        self.users = await self.present()
        yield
        for leaving in self.leaving.values():
            leaving.cancel()
        self.broker.unsubscribe(CHANNEL, self)
        await self.broker.stop(self)


class Visitor(SockJSConnection):
    """One open page; it becomes a user of the chat when it sends a name."""

    name = ""

    def __init__(self, session: Session, room: Room) -> None:
        super().__init__(session)
        self.room = room
        # the page's own id stays secret, so that no one else can return under it
        page = session.info.query.get("page") or secrets.token_hex()
        self.id = hashlib.sha256(page.encode(errors="replace")).hexdigest()[:16]

    async def on_open(self, info: ConnectionInfo) -> None:
        self.room.open_pages[self.id] += 1
        if self.id in self.room.leaving:
            self.room.leaving.pop(self.id).cancel()
        await self.subscribe(CHANNEL)
        welcome = {"type": "welcome", "you": self.id, "users": list(self.room.users.values())}
        self.send(json.dumps({**welcome, "history": list(self.room.history)}))

    async def on_message(self, message: str | bytes) -> None:
        match parse(message):
            case {"type": "join", "name": str(name)}:
                await self.join(name)
            case {"type": "say", "text": str(text)}:
                await self.say(text)
            case {"type": "leave"}:
                self.close()

    async def on_close(self) -> None:
        self.room.open_pages[self.id] -= 1
        if not self.room.open_pages[self.id]:
            del self.room.open_pages[self.id]
            if self.id in self.room.members:
                self.room.leaving[self.id] = asyncio.create_task(self.leave())

    async def leave(self) -> None:
        await asyncio.sleep(RETURN_DELAY)
        del self.room.leaving[self.id]
        self.room.let_go(self.id)
        if self.id not in await self.room.present():
            await self.tell_all("left", id=self.id)

    async def join(self, name: str) -> None:
        # Remove invisible characters, so that no one can imitate someone else's name.
        name = " ".join("".join(filter(str.isprintable, name)).split())
        if 0 < len(name) <= NAME_LENGTH:
            self.name = name
            place = f"{self.info.transport} on {self.room.node}".removesuffix(" on ")
            user = {"id": self.id, "name": name, "transport": place}
            self.room.take_in(user)
            await self.tell_all("joined", user=user)

    async def say(self, text: str) -> None:
        text = text.strip()
        if self.name and 0 < len(text) <= TEXT_LENGTH:
            said = {"from": self.id, "name": self.name, "text": text, "time": time.time()}
            said["id"] = secrets.token_hex(8)  # lets the page recognise what it has already shown
            await self.tell_all("said", **said)

    async def tell_all(self, event: str, **details: Any) -> None:
        await self.publish(CHANNEL, json.dumps({"type": event, **details}))


async def correct(room: Room, router: SockJSRouter) -> None:
    """Correct the list of users regularly: if a node dies, no one announces that its users left."""
    wrong: set[str] = set()
    while True:
        before, present = wrong, await room.present()
        wrong = present.keys() ^ room.users.keys()
        if wrong & before:  # wrong twice, so the announcement is not just on its way
            room.users = present
            event = {"type": "present", "users": list(present.values())}
            router.broadcast(router.subscribers(CHANNEL), json.dumps(event))
        await asyncio.sleep(PRESENCE_INTERVAL)


def parse(message: str | bytes) -> Any:
    """Parse JSON; return None if it is invalid, because clients may send anything."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


async def keep_correct(room: Room, router: SockJSRouter, _app: Any) -> AsyncIterator[None]:
    correcting = asyncio.create_task(correct(room, router))
    yield
    correcting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await correcting


def make_app(
    sockjs_client: Path = SOCKJS_CLIENT, broker: Broker | None = None, node: str = ""
) -> web.Application:
    """Make the application.

    Args:
        sockjs_client: The script for pages; if the file is missing, they load it from a CDN.
        broker: Connects several nodes.
        node: The name of this node, shown on the page.
    """
    app = web.Application()
    sockjs_url = CDN
    if sockjs_client.is_file():
        sockjs_url = "/sockjs.min.js"
        app.router.add_get(sockjs_url, partial(send_file, sockjs_client))

    # The iframe transports load the script too, and need the same version as the page.
    settings: dict[str, Any] = {"sockjs_url": sockjs_url, "max_message_size": 16384}
    settings["heartbeat_delay"] = HEARTBEAT_DELAY
    room = Room(broker or MemoryBroker(), node)
    router = SockJSRouter(partial(Visitor, room=room), "/chat", settings, broker=room.broker)
    router.attach(app)
    app.cleanup_ctx.append(room.work)
    if broker is not None:
        app.cleanup_ctx.append(partial(keep_correct, room, router))

    page = string.Template((PAGE / "index.html").read_text(encoding="utf-8")).substitute(
        sockjs_script=script_tag(sockjs_url),
        name_length=NAME_LENGTH,
        text_length=TEXT_LENGTH,
        silence=SILENCE * HEARTBEAT_DELAY,
    )
    app.router.add_get("/", partial(send_page, page))
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_static("/page/", PAGE)
    return app


def script_tag(url: str) -> str:
    """Return the element that loads sockjs-client from `url`; from the CDN, only the very file."""
    integrity = f' integrity="{INTEGRITY}" crossorigin="anonymous"' if url == CDN else ""
    return f'<script src="{url}"{integrity}></script>'


async def send_page(page: str, request: web.Request) -> web.Response:
    return web.Response(text=page, content_type="text/html", headers={"Cache-Control": "no-cache"})


async def send_file(path: Path, request: web.Request) -> web.FileResponse:
    return web.FileResponse(path)
