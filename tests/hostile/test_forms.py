"""Forms to jsonp_send: odd, wrong, or made to keep the server busy."""

import json

import async_timeout
import pytest

from tests.conftest import Serve
from tests.hostile.payloads import FORM, SESSION, Ending, session_lives_on
from tests.hostile.refusals import BROKEN, MISSING, assert_refused
from tests.target import Target
from tests.wire import Reply

MEGABYTE = 1 << 20


async def post_form(served: Target, form: bytes, content_type: str = FORM) -> Reply:
    headers = {"Content-Type": content_type}
    return await served.request("POST", SESSION + "/jsonp_send", form, headers=headers)


ACCEPTED = {
    "extra-fields": (b'a=1&d=["x"]&b=2&&=&', ["x"]),
    "first-of-two": (b'd=["x"]&d=["y"]', ["x"]),
    "first-of-two-with-a-broken-one": (b'd=["x"]&d=broken', ["x"]),
    "encoded-name": (b'%64=["x"]', ["x"]),
    "similar-names": (b'D=["a"]&dd=["b"]&d%00=["c"]&d[]=["e"]&+d=["f"]&d=["x"]', ["x"]),
    "name-within-a-value": (b'a=d=["y"]&d=["x"]', ["x"]),
    "equals-signs": (b'd=["a=b="]', ["a=b="]),
    "semicolons-separate-nothing": (b'd=["a;d=b"]', ["a;d=b"]),
    "plus": (b'd=+["a+b%2B"]+', ["a b+"]),
    "escapes": (b"d=%5b%22%41%c3%A9%22%5D", ["Aé"]),
    "bad-escapes-stand-for-themselves": (
        b'd=["%","%4","%zz","%%41","%-1","%u0041"]',
        ["%", "%4", "%zz", "%A", "%-1", "%u0041"],
    ),
    "escapes-once": (b'd=["%2541"]', ["%41"]),
    "escaped-NUL": (b"d=%5B%22%5Cu0000%22%5D", ["\0"]),
    "surrogate": (b"d=%5B%22%5Cud800%22%5D", ["\ud800"]),
    "bad-bytes-elsewhere": (b'a=%FF\xff&\xfe=&d=["x"]', ["x"]),
    "line-ends-in-other-fields": (b'a=1\r\n\r\n&d=["x"]', ["x"]),
}
REFUSED = {
    "no-field": (b"a=1", MISSING),
    "empty": (b"", MISSING),
    "separators": (b"&&&=&=", MISSING),
    "name-alone": (b"d", MISSING),
    "empty-field": (b"d=", MISSING),
    "empty-first-of-two": (b'd=&d=["x"]', MISSING),
    "other-separator": (b'a=1;d=["x"]', MISSING),
    "not-UTF-8": (b'd=["%ff"]', BROKEN),
    "overlong": (b'd=["%C0%AF"]', BROKEN),
    "surrogate": (b'd=["%ED%A0%80"]', BROKEN),
    "truncated": (b'd=["%E2%82"]', BROKEN),
    "NUL": (b'd=["%00"]', BROKEN),
    "newline": (b'd=["%0A"]', BROKEN),
    "BOM": (b'd=%EF%BB%BF["x"]', BROKEN),
    "cut-by-a-separator": (b'd=["a&b"]', BROKEN),
    "JSON-for-a-form": (b'["x"]', MISSING),
}


@pytest.mark.parametrize(("form", "messages"), ACCEPTED.values(), ids=ACCEPTED)
async def test_odd_form_is_read_as_browsers_mean_it(
    serve: Serve, form: bytes, messages: list[str]
) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    assert (await post_form(served, form)).body == b"ok"
    await session_lives_on(served, Noted, *messages)


@pytest.mark.parametrize(("form", "text"), REFUSED.values(), ids=REFUSED)
async def test_bad_form_is_refused_and_the_session_lives_on(
    serve: Serve, form: bytes, text: bytes
) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    assert_refused(await post_form(served, form), text)
    await session_lives_on(served, Noted)


@pytest.mark.parametrize("suffix", ["", ";charset=utf-16", "; charset=nonsense", ' ;;"', ";1*"])
async def test_form_is_known_whatever_its_parameters(serve: Serve, suffix: str) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    reply = await post_form(served, b"d=%5B%22%C3%A9%22%5D", FORM.upper() + suffix)
    assert reply.body == b"ok"
    await session_lives_on(served, Noted, "é")


MULTIPART = b'--x\r\nContent-Disposition: form-data; name="d"\r\n\r\n["a"]\r\n--x--\r\n'


@pytest.mark.parametrize("boundary", ["; boundary=x", "", "; boundary=" + "y" * 1000])
async def test_multipart_is_no_form(serve: Serve, boundary: str) -> None:
    class Noted(Ending):
        pass

    served = await serve(Noted)
    assert await served.poll(SESSION) == b"o"
    content_type = "multipart/form-data" + boundary
    assert_refused(await post_form(served, MULTIPART, content_type), BROKEN)
    await session_lives_on(served, Noted)


BUSY = {
    "separators": (b"&" * MEGABYTE, MISSING),
    "escapes-in-names": (b"%&" * (MEGABYTE // 2), MISSING),
    "nearly-the-name": (b"&d+" * (MEGABYTE // 3), MISSING),
    "percent-signs": (b"d=" + b"%" * (MEGABYTE - 2), BROKEN),
    "half-escapes": (b"d=" + b"%4" * (MEGABYTE // 2 - 1), BROKEN),
    "escapes": (b"d=" + b"%41a" * (MEGABYTE // 4 - 1), BROKEN),
    "pluses": (b"d=" + b"+" * (MEGABYTE - 2), BROKEN),
}


@pytest.mark.parametrize(("form", "text"), BUSY.values(), ids=BUSY)
async def test_large_form_is_read_in_one_pass(serve: Serve, form: bytes, text: bytes) -> None:
    served = await serve()
    assert await served.poll(SESSION) == b"o"
    async with async_timeout.timeout(10):
        for _ in range(5):
            assert_refused(await post_form(served, form), text)
    assert await served.post(SESSION, json.dumps(["next"])) == 204
    assert await served.poll(SESSION) == b'a["next"]'
