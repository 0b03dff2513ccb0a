"""A chat on one page: run ``python -m examples.chat``, then open http://127.0.0.1:8080/.

Page and server exchange JSON in SockJS messages.  The page sends ``join`` (again to change the
name), ``say`` and ``leave``; it receives ``welcome``, ``joined``, ``left`` and ``said``.

Everything said is published to a channel, and the channel's members are the people who are here;
`on_presence` tells who has joined and who has left.  With a broker for several processes, people on
several nodes chat with each other.

If someone returns within `RETURN_DELAY`, over another transport or after a reload, the others do
not notice.  Someone who closes the tab leaves after that time.  If a machine vanishes, its user
leaves when the server notices; see docs/lifecycle.md.
"""

import hashlib
import json
import secrets
import string
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
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
    """What was said last, and who is here, on all nodes."""

    router: SockJSRouter

    def __init__(self, broker: Broker, node: str = "") -> None:
        self.broker = broker
        self.node = node
        self.history: deque[Mapping[Any, Any]] = deque(maxlen=HISTORY_LENGTH)
        # by id: a user has several entries with several tabs, and for a while after a new name
        self.entries: defaultdict[str, set[str]] = defaultdict(set)

    def deliver(
        self, channel: str, message: PreparedMessage, exclude: Collection[Session] = ()
    ) -> None:
        """Receive what is published, as pages do."""
        self.history.append(json.loads(message.message))

    async def on_presence(self, channel: str, joined: list[str], left: list[str]) -> None:
        """Tell the pages here who has joined, perhaps under a new name, and who has left."""
        for member in joined:
            self.entries[json.loads(member)["id"]].add(member)
        for member in left:
            self.entries[json.loads(member)["id"]].discard(member)
        for user_id in {json.loads(member)["id"]: None for member in joined + left}:
            if not self.entries[user_id]:
                del self.entries[user_id]
                self.tell_pages({"type": "left", "id": user_id})
            elif (newest := max(self.entries[user_id], key=since)) in joined:
                self.tell_pages({"type": "joined", "user": latest([newest])[user_id]})

    def tell_pages(self, event: Mapping[str, Any]) -> None:
        self.router.broadcast(self.router.subscribers(CHANNEL), json.dumps(event))

    async def work(self, _app: web.Application) -> AsyncIterator[None]:
        """Follow what is said while the application runs."""
        self.broker.start(self)
        self.broker.subscribe(CHANNEL, self)
        await self.broker.ready(CHANNEL)
        yield
        self.broker.unsubscribe(CHANNEL, self)
        await self.broker.stop(self)


def since(member: str) -> float:
    return float(json.loads(member)["since"])


def latest(members: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Return users by id; if someone has several entries, the latest one counts."""
    users = [json.loads(member) for member in sorted(members, key=since)]
    return {user["id"]: {key: user[key] for key in ("id", "name", "transport")} for user in users}


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
        await self.subscribe(CHANNEL, presence=True)
        users = latest(await self.members(CHANNEL))
        welcome = {"type": "welcome", "you": self.id, "users": list(users.values())}
        self.send(json.dumps({**welcome, "history": list(self.room.history)}))

    async def on_message(self, message: str | bytes) -> None:
        match parse(message):
            case {"type": "join", "name": str(name)}:
                await self.join(name)
            case {"type": "say", "text": str(text)}:
                await self.say(text)
            case {"type": "leave"}:
                self.close()

    async def join(self, name: str) -> None:
        # Remove invisible characters, so that no one can imitate someone else's name.
        name = " ".join("".join(filter(str.isprintable, name)).split())
        if 0 < len(name) <= NAME_LENGTH:
            self.name = name
            place = f"{self.info.transport} on {self.room.node}".removesuffix(" on ")
            user = {"id": self.id, "name": name, "transport": place, "since": time.time()}
            await self.subscribe(CHANNEL, member=json.dumps(user), presence=True)

    async def say(self, text: str) -> None:
        text = text.strip()
        if self.name and 0 < len(text) <= TEXT_LENGTH:
            said = {"type": "said", "from": self.id, "name": self.name, "text": text}
            said["id"] = secrets.token_hex(8)  # lets the page recognise what it has already shown
            await self.publish(CHANNEL, json.dumps({**said, "time": time.time()}))


def parse(message: str | bytes) -> Any:
    """Parse JSON; return None if it is invalid, because clients may send anything."""
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


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
    settings.update(heartbeat_delay=HEARTBEAT_DELAY, presence_linger=RETURN_DELAY)
    room = Room(broker or MemoryBroker(), node)
    make = partial(Visitor, room=room)
    room.router = SockJSRouter(
        make, "/chat", settings, broker=room.broker, on_presence=room.on_presence
    )
    room.router.attach(app)
    app.cleanup_ctx.append(room.work)

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
