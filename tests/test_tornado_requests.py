"""What the Tornado-style API makes of requests: their cookies, and where they come from."""

import asyncio
from http.cookies import SimpleCookie
from typing import Any

import pytest

from sockjs_aio import SettingsError
from sockjs_aio.tornado import SockJSRouter
from tests import clients
from tests.test_tornado import Old, Start, start
from tests.websocket_wire import HANDSHAKE

__all__ = ["start"]  # the fixture


async def info_of(start: Start, cookie: str, query: str = "") -> Any:
    """Open a session with a `Cookie` header, and return what `on_open` gets."""

    class Noted(Old):
        def on_open(self, info: Any) -> None:
            super().on_open(info)
            self.info = info

    served = await start(Noted)
    headers = {"Cookie": cookie, "X-Own": "1"}
    await served.request("POST", "/0/1/xhr" + query, b"", headers=headers)
    await Noted.until("open")
    return Noted.all[0].info


async def test_connection_info(start: Start) -> None:
    info = await info_of(start, "colour=blue; x=y", "?a=1&a=2&b=%C3%A4")
    assert info.ip == "127.0.0.1" and info.path == "/tornado/0/1/xhr"
    assert info.arguments == {"a": [b"1", b"2"], "b": ["ä".encode()]}
    assert info.get_argument("a") == b"1" and info.get_argument("z") is None
    assert info.cookies["colour"].value == info.get_cookie("colour").value == "blue"
    assert sorted(info.cookies) == ["colour", "x"] and info.cookies is info.cookies
    assert info.get_cookie("z") is None
    assert info.headers["x-own"] == info.get_header("X-OWN") == "1"
    assert info.get_header("z") is None


@pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
async def test_subprotocol_that_was_agreed_on_is_told(start: Start, path: str) -> None:
    class Noted(Old):
        def on_open(self, info: Any) -> None:
            self.seen.append(info.protocol)

    served = await start(Noted, {"protocols": ["v12.stomp"]})
    for offer in ["v11.stomp, v12.stomp", ""]:
        headers = HANDSHAKE | ({"Sec-WebSocket-Protocol": offer} if offer else {})
        wire = await served.wire()
        wire.send("GET", served.prefix + path, headers=headers)
        assert (await wire.head()).status == 101
    await Noted.until(None)
    assert Noted.seen == ["v12.stomp", None]


@pytest.mark.parametrize("kind", clients.ALL, ids=lambda kind: kind.name)
async def test_cookies_are_not_parsed_until_they_are_asked_for(
    start: Start, kind: type[clients.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SimpleCookie.load takes quadratic time on Pythons before the remedy of CVE-2024-7592."""

    def refuse(*_: object) -> None:
        raise AssertionError("SimpleCookie has parsed what a client has sent")

    class Noted(Old):
        def on_open(self, info: Any) -> None:
            super().on_open(info)
            self.seen.append("cookies" in vars(info))
            self.seen.append(len(info.cookies))

    monkeypatch.setattr(SimpleCookie, "load", refuse)
    client = await kind.open(await start(Noted))
    await Noted.until("open")
    assert Noted.seen == ["open", False, 0]
    await client.leave()


async def test_cookies_with_names_that_morsels_cannot_have_are_left_out(start: Start) -> None:
    hostile = '"' + "\\" * 4001 + '"'
    info = await info_of(start, f'a=1; x[y]=2; path=3; b="2\\073;|:"; long={hostile}; c=d=e')
    values = {name: morsel.value for name, morsel in info.cookies.items()}
    assert values.pop("long", None) is not None
    assert values == {"a": "1", "b": "2;;|:", "c": "d=e"}


@pytest.mark.parametrize("version", [1, 2])
async def test_cookies_that_tornado_has_signed_can_be_read(start: Start, version: int) -> None:
    web = pytest.importorskip("tornado.web")
    signed = web.create_signed_value("secret", "user", "ann", version=version).decode()
    for written in (signed, f'"{signed}"'):
        info = await info_of(start, f"other=x; user={written}")
        value = info.get_cookie("user").value
        assert web.decode_signed_value("secret", "user", value, min_version=1) == b"ann"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("http://localhost", 101),  # our own host, as `Host` has it
        ("https://good.example", 101),
        ("HTTPS://Good.Example", 101),
        ("https://good.example:8443", 403),
        ("https://good.example:80", 403),
        ("https://port.example:8443", 101),
        ("https://port.example", 403),
        ("https://port.example:844", 403),
        ("http://[::1]:81", 101),
        ("http://[::1]", 403),
        ("https://evil.example", 403),
        ("https://e", 403),
        ("https://sub.good.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
@pytest.mark.parametrize("path", ["/0/1/websocket", "/websocket"])
async def test_websocket_allow_origin(
    start: Start, path: str, origin: str | None, status: int
) -> None:
    class Noted(Old):
        pass

    allowed = ("good.example", "port.example:8443", "[::1]:81")
    served = await start(Noted, {"websocket_allow_origin": allowed})
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **({"Origin": origin} if origin else {}),
    }
    wire = await served.wire()
    wire.send("GET", "/tornado" + path, headers=headers)
    assert (await wire.head()).status == status
    await asyncio.sleep(0)
    assert "open" not in Noted.seen or status == 101
    if status == 403:  # it is about WebSockets only
        assert await served.poll("/0/2", headers={"Origin": origin}) == b"o"


@pytest.mark.parametrize(
    "value",
    [
        "good.example",
        "good.example,other.example",
        b"good.example",
        ["https://good.example"],
        ["good.example/"],
        ["Good.example"],
        ["good.example", "*"],
        ["*.good.example"],
        ["good.example, other.example"],
        [""],
        [None],
        None,
        True,
    ],
)
def test_websocket_allow_origin_that_cannot_be_meant_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError, match="websocket_allow_origin must be") as error:
        SockJSRouter(Old, "/a", {"websocket_allow_origin": value})
    wrong = value[-1] if isinstance(value, list) else value
    assert repr(wrong) in str(error.value)


def test_websocket_allow_origin_may_let_in_nobody_else() -> None:
    assert SockJSRouter(Old, "/a", {"websocket_allow_origin": []}).urls
