"""What is read from a request's head: callback, ids, cookie, origin; each against a plain rule."""

import re
from collections.abc import Coroutine
from typing import Any
from unittest.mock import Mock
from urllib.parse import unquote_to_bytes

from aiohttp import HttpVersion11, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from sockjs_aio import Settings, SockJSConnection, SockJSRouter
from sockjs_aio.core.registry import SessionRegistry
from sockjs_aio.errors import CallbackError
from sockjs_aio.protocol.session_ids import is_valid_id
from sockjs_aio.server.callback import read_callback
from sockjs_aio.server.service import Service
from sockjs_aio.server.session_cookie import set_session_cookie

NAME = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
ROOT = URL("/")
NO_CONNECTION: Any = [Mock() for _ in range(5)]
ESCAPED = re.compile(r"([^%]|%[0-9a-fA-F]{2})+", re.DOTALL)
ID = re.compile(r"[^./\x00-\x1f\x7f-\x9f\u2028\u2029]+")
COOKIE_OCTETS = {chr(code) for code in range(0x21, 0x7F)} - set('",;\\')


def header(data: bytes) -> str:
    """Decode a header's value, or a URL, as aiohttp does; bytes that end it are left out."""
    return re.sub(rb"[\r\n\0]", b"", data).decode("utf-8", "surrogateescape").strip(" \t")


def made(url: URL = ROOT, **headers: str) -> web.Request:
    """Make a request as aiohttp's parser does: what is not UTF-8 stands as surrogates."""
    named = CIMultiDict((name.replace("_", "-"), value) for name, value in headers.items())
    message = RawRequestMessage(
        "POST",
        url.raw_path,
        HttpVersion11,
        CIMultiDictProxy(named),
        raw_headers=(),
        should_close=False,
        compression=None,
        upgrade=False,
        chunked=False,
        url=url,
    )
    return web.Request(message, *NO_CONNECTION)


def result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what does not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value
    raise AssertionError("it waits")


def fuzz_callback(data: bytes) -> None:
    """The query of jsonp and htmlfile."""
    url = URL.build(path="/", query_string=header(data), encoded=True)
    given = [value for name, value in url.query.items() if name in ("c", "callback")]
    try:
        callback = read_callback(made(url)).decode()
    except CallbackError as error:
        assert not given or any(
            not value or set(value) - NAME or len(value) > 128 for value in given
        )
        assert str(error) in ('"callback" parameter required', 'invalid "callback" parameter')
    else:
        assert callback in given
        assert is_name(callback)


def is_name(value: str) -> bool:
    """Tell whether `value` can be a callback."""
    return 0 < len(value) <= 128 and not set(value) - NAME


ROUTER = SockJSRouter(SockJSConnection, "/echo")
APP = web.Application()
ROUTER.attach(APP)
APP.freeze()


def fuzz_ids(data: bytes) -> None:
    """A session id, as a segment of the path."""
    segment = header(re.sub(rb"[\x00-\x20\x7f/?#]", b"", data))  # those end it, or the request
    if not segment:
        return
    url = URL.build(path=f"/echo/000/{segment}/xhr", encoded=True)
    match = result(APP.router.resolve(made(url)))
    try:
        plain = unquote_to_bytes(segment.encode()).decode()
    except UnicodeError:
        plain = ""
    is_whole = ESCAPED.fullmatch(segment) is not None
    is_fine = is_whole and len(segment) <= 256 and ID.fullmatch(plain) is not None
    if match.http_exception is not None:
        assert not is_fine
    else:
        assert is_valid_id(segment) == is_fine
        if is_fine:
            assert match["session_id"] == plain


def fuzz_cookie(data: bytes) -> None:
    """The header ``Cookie``, of which JSESSIONID is sent back."""
    cookie = header(data)
    response = web.Response()
    set_session_cookie(made(Cookie=cookie), response, Settings(jsessionid=True))
    value = "dummy"
    for pair in cookie.split(";"):
        name, _, found = pair.strip().partition("=")
        if name == "JSESSIONID" and found and not set(found) - COOKIE_OCTETS:
            value = found
            break
    assert response.headers["Set-Cookie"] == f"JSESSIONID={value}; Path=/"


ORIGINS = ["https://good.example", "http://localhost:8080"]
REFERER = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?")
STRICT = Settings(origins=ORIGINS)
SERVICE = Service(STRICT, SessionRegistry(SockJSConnection, STRICT), None)


def fuzz_origin(data: bytes) -> None:
    """The headers ``Origin``, ``Sec-Fetch-Site``, ``Referer`` and ``Host``, a line each."""
    names = ("Origin", "Sec_Fetch_Site", "Referer", "Host")
    values = dict(zip(names, map(header, data.split(b"\n")), strict=False))
    given = {name: value for name, value in values.items() if value}
    request = made(ROOT, **{"Host": "", **given})
    for is_linkable in (False, True):
        try:
            SERVICE.admission.check_origin(request, is_linkable=is_linkable)
        except web.HTTPForbidden:
            assert not must_pass(given, is_linkable)
        else:
            assert may_pass(given, is_linkable)


def may_pass(given: dict[str, str], is_linkable: bool) -> bool:
    """Tell whether such a request may come from a page that is allowed, or from no page."""
    if "Origin" in given:
        return given["Origin"] in ORIGINS
    site = given.get("Sec_Fetch_Site")
    if site in ("same-origin", "none"):
        return True
    # browsers and urlsplit drop tabs; a scheme has no case
    referer = given.get("Referer", "").replace("\t", "").lstrip("".join(map(chr, range(33))))
    scheme, host = REFERER.match(referer).groups()  # type: ignore[union-attr]
    if not host:
        return site is None and not is_linkable
    return f"{(scheme or '').lower()}://{host}" in ORIGINS


def must_pass(given: dict[str, str], is_linkable: bool) -> bool:
    """As `may_pass`, for what browsers send."""
    is_plain = re.fullmatch(r"(https?://[a-z0-9.:-]+(/[ -~]*)?)?", given.get("Referer", ""))
    return bool(is_plain) and may_pass(given, is_linkable)
