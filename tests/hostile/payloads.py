"""What the tests of payloads share: bodies that are not what they should be; ways to send them."""

import json
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from tests.conftest import Served
from tests.hostile.websocket import Watched
from tests.target import Target
from tests.wire import Reply

FORM = "application/x-www-form-urlencoded"
SESSION = "/000/abcdefgh"


@dataclass(frozen=True)
class Way:
    """One way to send messages over HTTP."""

    name: str
    url: str
    content_type: str
    is_form: bool = False

    async def post(
        self, served: Target, payload: bytes, session: str = SESSION, **headers: str
    ) -> Reply:
        """Send `payload` to `session`."""
        body = b"d=" + quote_from_bytes(payload).encode() if self.is_form else payload
        headers = {"Content-Type": self.content_type, **headers}
        return await served.request("POST", session + self.url, body, headers=headers)


XHR_SEND = Way("xhr_send", "/xhr_send", "text/plain;charset=UTF-8")
PLAIN = Way("jsonp_send-plain", "/jsonp_send", "text/plain;charset=UTF-8")
WAYS = [XHR_SEND, Way("jsonp_send-form", "/jsonp_send", FORM, is_form=True), PLAIN]


class Ending(Watched):
    """As `Watched`; the message ``end`` closes the session."""

    async def on_message(self, message: str | bytes) -> None:
        if message == "end":
            self.close()
        else:
            await super().on_message(message)


async def session_lives_on(
    served: Served, noted: type[Ending], *before: str, session: str = SESSION
) -> None:
    """Make sure that messages still come and go, and that the hooks saw nothing but `before`."""
    assert await served.post(session, '["next"]') == 204
    messages: list[str] = []
    while len(messages) <= len(before):
        messages += json.loads((await served.poll(session))[1:])
    assert messages == [*before, "next"]
    assert await served.post(session, '["end"]') == 204
    await noted.until("close")
    assert noted.seen == ["open", *before, "next", "close"]


DIGITS = b"9" * 1_000_000

BROKEN_JSON = {
    # bombs
    "arrays": b"[" * 100_000,
    "objects": b'{"a":' * 100_000,
    "objects-in-array": b'[{"a":' * 100_000,
    "arrays-closed": b"[" * 100_000 + b"]" * 100_000,
    "arrays-behind-a-message": b'["a",' + b"[" * 100_000,
    "flat-arrays": b"[" + b"[]," * 100_000 + b"[]]",
    "flat-objects": b"[" + b"{}," * 100_000 + b"{}]",
    # numbers
    "digits": b"[" + DIGITS + b"]",
    "digits-alone": DIGITS,
    "negative-digits": b"[-" + DIGITS + b"]",
    "digits-with-exponent": b"[1e" + DIGITS + b"]",
    "digits-with-fraction": b"[0." + DIGITS + b"]",
    # not an array
    "object": b'{"a":"b"}',
    "number": b"1",
    "null": b"null",
    "blanks": b" \r\n\t ",
    "unquoted": b"abc",
    "two-arrays": b'["a"]["b"]',
    "text-behind": b'["a"]x',
    "unfinished": b'["a"',
    "comma": b'["a",]',
    "comma-first": b'[,"a"]',
    "comment": b'["a"/* */]',
    # not strings
    "numbers": b"[1,2]",
    "float": b"[1.5]",
    "null-inside": b'["a",null]',
    "true": b"[true]",
    "nested": b'["a",["b"]]',
    "object-inside": b'["a",{"b":"c"}]',
    "empty-object": b"[{}]",
    "NaN": b"[NaN]",
    "Infinity": b"[Infinity]",
    "-Infinity": b'["a",-Infinity]',
    # escapes
    "short-escape": b'["\\u12"]',
    "no-hex": b'["\\u00zz"]',
    "blank-in-escape": b'["\\u 123"]',
    "hex-escape": b'["\\x41"]',
    "unfinished-escape": b'["\\',
    "raw-NUL": b'["a\x00b"]',
    "raw-NUL-behind": b'["a"]\x00',
    "raw-newline": b'["a\nb"]',
    "raw-escape": b'["\x1b[2J"]',
    # encodings
    "BOM": b'\xef\xbb\xbf["a"]',
    "no-break-space": '\u00a0["a"]'.encode(),
    "UTF-16-as-UTF-8": b'[\x00"\x00a\x00"\x00]\x00',
}

NOT_UTF_8 = {
    "overlong": b'["\xc0\xaf"]',
    "overlong-quote": b"[\xc0\xa2a\xc0\xa2]",
    "overlong-NUL": b'["\xc0\x80"]',
    "truncated": b'["\xe2\x82"]',
    "truncated-at-the-end": b'["a"]\xf0\x9f\x98',
    "surrogate": b'["\xed\xa0\x80"]',
    "surrogate-pair": b'["\xed\xa0\xbd\xed\xb8\x80"]',
    "beyond-unicode": b'["\xf4\x90\x80\x80"]',
    "latin-1": b'["\xe4"]',
    "UTF-16": '["a"]'.encode("utf-16"),
    "UTF-16-BE": b"\xfe\xff" + '["a"]'.encode("utf-16-be"),
    "UTF-32": '["a"]'.encode("utf-32"),
}
