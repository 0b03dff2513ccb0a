"""What a session keeps of the request that opened it."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy

from sockjs_aio import ConnectionInfo
from sockjs_aio.session_info import _packed, _unpacked


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "example.com")],
        [("X-Empty", "")],
        [("Cookie", "a=1"), ("Host", "h"), ("Cookie", "b=2"), ("X-Empty", ""), ("x-CASE", "y")],
        [("X-Bytes", b"\xff\xc3\xa9".decode("utf-8", "surrogateescape")), ("X-Wide", "\U0001f600")],
        [("X-Made-Up", "\0"), ("X-More", "x")],
    ],
)
def test_headers_are_those_of_the_request(headers: list[tuple[str, str]]) -> None:
    found = _unpacked(_packed(CIMultiDictProxy(CIMultiDict(headers))))
    assert list(found.items()) == headers
    for name, value in headers:
        assert value in found.getall(name.upper())


@pytest.mark.parametrize("query", ["", "?", "?a=1&a=2&b=&c", "?a=%C3%A9+x%26y", "?a=1;b=2"])
def test_headers_and_query_are_not_kept_as_objects(query: str) -> None:
    request = make_mocked_request("POST", "/echo/0/1/xhr" + query, headers={"Host": "h"})
    info = ConnectionInfo(request, "xhr")
    assert info.headers == request.headers and info.headers is not request.headers
    assert info.query == request.query and info.query is not request.query
