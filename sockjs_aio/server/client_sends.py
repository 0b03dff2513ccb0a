"""xhr_send and jsonp_send: requests that carry messages to the server.

Section of the protocol: "XhrPolling", "JsonpPolling".
"""

import asyncio
import binascii
import re
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web

from sockjs_aio.core.closing import CLOSE_FRAME_TRAVEL
from sockjs_aio.core.message_rate import Pace
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.core.session import Session
from sockjs_aio.errors import PayloadMissingError
from sockjs_aio.protocol.ends import TOO_MANY
from sockjs_aio.protocol.frames import decode_messages
from sockjs_aio.server.body import read_body
from sockjs_aio.server.headers import PLAIN, readable_head, uncached
from sockjs_aio.server.responses import ShortResponse, plain_response, unavailable
from sockjs_aio.server.service import Service
from sockjs_aio.server.session_cookie import set_session_cookie
from sockjs_aio.turns import Turn

FORM = "application/x-www-form-urlencoded"

_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

PART = 16384
"""Bytes of a form to unescape before other tasks may run."""


async def xhr_send(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``POST .../xhr_send`` with 204 once its messages are accepted."""
    if not await _accept(service, request, read_body):
        return unknown_session()
    response = ShortResponse(readable_head(request, 204, PLAIN))
    set_session_cookie(request, response, service.settings)
    return response


async def jsonp_send(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer ``POST .../jsonp_send`` with ``ok`` once its messages are accepted."""
    if not await _accept(service, request, _read_form):
        return unknown_session()
    response = web.Response(body=b"ok", headers=uncached(PLAIN))
    set_session_cookie(request, response, service.settings)
    return response


ReadPayload = Callable[[web.Request, SessionRegistry], Awaitable[bytes]]


async def _accept(service: Service, request: web.Request, read: ReadPayload) -> bool:
    """Pass the messages of `request` to its session; return False if the session does not exist.

    Raises:
        web.HTTPServiceUnavailable: If too many requests of the session are waiting.
    """
    session = await service.existing_session(request)
    if session is None:
        if service.relay is None:
            service.missed_sends.missed(service.registry.now())
        ended_at = service.registry.ended_sessions.ended_at(request.match_info["session_id"])
        await _let_close_frame_arrive(ended_at, service.registry)
        return False
    service.missed_sends.found()
    if session.hooks.inbox.is_crowded:  # this also counts requests whose client has given up
        raise unavailable("Too many requests of this session are waiting.\n")
    async with session.hooks.inbox.turn:
        payload = await read(request, service.registry)
        if session.is_open:
            messages = decode_messages(payload, service.settings.max_messages)
            if session.pace is not None:
                await _keep_pace(session, session.pace, len(messages), service.registry)
            # we may have waited: nothing is left of the hooks of a session that was forgotten
            if session.is_open and await session.hooks.accept(messages, len(payload)):
                service.registry.counters.received(len(messages), len(payload))
                return True
    return await _is_forgiven(session, service.registry)


async def _keep_pace(session: Session, pace: Pace, count: int, registry: SessionRegistry) -> None:
    """Wait until `count` messages may come, or close the session; the caller has the turn."""
    while session.is_open and (delay := pace.delay(count, registry.now())) > 0:
        if pace.closes:
            session.close(*TOO_MANY)
        else:
            await pace.wait(delay)
    pace.spend(count, registry.now())


async def _is_forgiven(session: Session, registry: SessionRegistry) -> bool:
    """Tell whether to answer a send to a closed session as if it had come in time.

    We do so until the close frame is written.  After that, the answer waits as long as the close
    frame may need to arrive: a client that gets 404 first would not learn why its session ended.
    On a slow line the frame may take longer; then the kernel tells us that it is still on its way.
    """
    if not session.is_told:
        return True
    await _let_close_frame_arrive(session.told_at, registry)
    return session.is_awaited


async def _let_close_frame_arrive(told_at: float | None, registry: SessionRegistry) -> None:
    if told_at is not None:
        await asyncio.sleep(told_at + CLOSE_FRAME_TRAVEL - registry.now())


def unknown_session() -> web.Response:
    """Answer a send whose session does not exist."""
    return plain_response(404, "Unknown session.\n")


async def _read_form(request: web.Request, registry: SessionRegistry) -> bytes:
    """Read the field ``d`` of a form, or the whole of any other body."""
    body = await read_body(request, registry)
    if not _is_form(request):
        return body
    turn, parts = Turn(), []
    for part in _field_parts(body):
        parts.append(part)
        if turn.is_over:
            await turn.next()
    return b"".join(parts)


def _is_form(request: web.Request) -> bool:
    # aiohttp's `content_type` uses the parser of the email package, which fails on some values and
    # takes seconds for others
    content_type, _, _ = request.headers.get("Content-Type", "").partition(";")
    return content_type.strip().lower() == FORM


def form_field(form: bytes) -> bytes:
    """Return the value of the first field ``d`` of an urlencoded form.

    Raises:
        PayloadMissingError: If there is no such field.
    """
    return b"".join(_field_parts(form))


def _field_parts(form: bytes) -> Iterator[bytes]:
    field = _raw_field(form)
    start = 0
    while start < len(field):
        end = start + PART
        cut = field.find(b"%", end - 2, end)  # do not cut an escape in two
        part = field[start : end if cut < 0 else cut]
        start += len(part)
        yield _unescaped(part.replace(b"+", b" "))


def _raw_field(form: bytes) -> bytes:
    # micro-optimisation: a regular expression would stop at each "&" of a megabyte of them
    form = b"&%b&" % form
    starts = [form.find(b"&%b%b" % (name, end)) for name in (b"d", b"%64") for end in (b"=", b"&")]
    start = min((start for start in starts if start >= 0), default=None)
    if start is None:
        raise PayloadMissingError("the form has no such field")
    return form[start + 1 : form.index(b"&", start + 1)].partition(b"=")[2]


def _unescaped(part: bytes) -> bytes:
    if _BROKEN_ESCAPE.search(part):  # a broken escape stands for itself
        return _ESCAPES.sub(_unescape, part)
    # micro-optimisation: quoted-printable uses the same escapes, and its decoder is in C
    return binascii.a2b_qp(part.replace(b"=", b"=3D").replace(b"%", b"="))


def _unescape(found: "re.Match[bytes]") -> bytes:
    return binascii.unhexlify(found[0].replace(b"%", b""))
