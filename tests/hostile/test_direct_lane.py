"""The direct lane and aiohttp, given the same bytes, answer the same bytes.

Whatever the lane takes although aiohttp would read it in another way could be used to put a request
of one client behind that of another (request smuggling).
"""

import itertools
import random
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lanes import answered as answered
from tests.twins import ENDINGS, Twins, post

PATH = "/echo/000/SESSION"
POLL = post(f"{PATH}/xhr")
STREAM = post(f"{PATH}/xhr_streaming")
SEND = post(f"{PATH}/xhr_send", b'["a"]')

HEAD = f"POST {PATH}/xhr_send HTTP/1.1\r\nHost: localhost\r\n"


def send(*fields: str, body: bytes = b'["b"]') -> bytes:
    """Make an xhr_send with these headers and no others but Host."""
    return (HEAD + "".join(f"{field}\r\n" for field in fields) + "\r\n").encode("latin-1") + body


PLAIN = {
    "poll": POLL,
    "stream": STREAM,
    "send": SEND,
    "send two": post(f"{PATH}/xhr_send", b'["c", "d"]'),
    "send nothing": post(f"{PATH}/xhr_send", b"[]"),
    "poll with a query": post(f"{PATH}/xhr?t=1700000000000"),
    "poll with an origin": post(f"{PATH}/xhr", b"", "Origin: https://a.example"),
    "send with an origin": post(f"{PATH}/xhr_send", b'["e"]', "Origin: null", "Cookie: a=b"),
    "stream with an origin": post(f"{PATH}/xhr_streaming", b"", "Origin: https://a.example"),
    "poll with a body": post(f"{PATH}/xhr", b"x" * 100),
}
"""What the lane answers."""

ODD = {
    "empty body": post(f"{PATH}/xhr_send"),
    "broken body": post(f"{PATH}/xhr_send", b'["a'),
    "not UTF-8": post(f"{PATH}/xhr_send", b'["\xff"]'),
    "no array": post(f"{PATH}/xhr_send", b'{"a": 1}'),
    "unknown session": post("/echo/000/nobody/xhr_send", b'["a"]'),
    "other prefix": post("/other/000/SESSION/xhr_send", b'["a"]'),
    "other server id": post("/echo/777/SESSION/xhr_send", b'["z"]'),
    "escaped id": post("/echo/000/%73ESSION/xhr", b""),
    "dots": post("/echo/../echo/000/SESSION/xhr", b""),
    "GET": f"GET {PATH}/xhr HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "info": b"GET /echo/info HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "greeting": b"GET /echo/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HEAD": b"HEAD /echo/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "preflight": f"OPTIONS {PATH}/xhr HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\n\r\n".encode(),
    "PUT": f"PUT {PATH}/xhr_send HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode(),
    "HTTP/1.0": SEND.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "HTTP/1.0, kept": send("Connection: keep-alive", "Content-Length: 5").replace(b"1.1", b"1.0"),
    "lower case": SEND.replace(b"POST", b"post"),
    "absolute": SEND.replace(b"POST /", b"POST http://localhost/"),
    "closing": send("Content-Length: 5", "Connection: close"),
    "chunked": send("Transfer-Encoding: chunked", body=b'5\r\n["f"]\r\n0\r\n\r\n'),
    "chunked and length": send(
        "Content-Length: 5", "Transfer-Encoding: chunked", body=b'5\r\n["f"]\r\n0\r\n\r\n'
    ),
    "length and chunked": send(
        "Transfer-Encoding: chunked", "Content-Length: 15", body=b'5\r\n["f"]\r\n0\r\n\r\n'
    ),
    "obscure chunked": send(
        "Transfer-Encoding : chunked", "Content-Length: 15", body=b'5\r\n["f"]\r\n0\r\n\r\n'
    ),
    "two lengths": send("Content-Length: 5", "Content-Length: 5"),
    "two different lengths": send("Content-Length: 5", "Content-Length: 4"),
    "list of lengths": send("Content-Length: 5, 5"),
    "long length": send("Content-Length: 0005"),
    "signed length": send("Content-Length: +5"),
    "short length": send("Content-Length: 3"),
    "length without blank": send("Content-Length:5"),
    "length with tab": send("Content-Length:\t5"),
    "length with blank before colon": send("Content-Length : 5"),
    "folded": send("Content-Length: 5", "X-A: b\r\n c"),
    "folded length": send("Content-Length:\r\n 5"),
    "bare LF": send("Content-Length: 5").replace(b"\r\n", b"\n"),
    "bare LF in a header": send("X-A: b\nContent-Length: 5"),
    "bare CR in a header": send("X-A: b\rContent-Length: 5"),
    "NUL": send("Content-Length: 5", "X-A: \0"),
    "not ASCII": send("Content-Length: 5", "X-A: \xe4"),
    "expecting": send("Content-Length: 5", "Expect: 100-continue"),
    "upgrading": send("Content-Length: 5", "Upgrade: websocket", "Connection: Upgrade"),
    "compressed": send("Content-Length: 5", "Content-Encoding: gzip"),
    "two hosts": send("Content-Length: 5", "Host: other"),
    "odd host": SEND.replace(b"localhost", b"a b"),
    "no host": SEND.replace(b"Host: localhost\r\n", b""),
    "two origins": send("Content-Length: 5", "Origin: https://a", "Origin: https://b"),
    "asking headers": send("Content-Length: 5", "Access-Control-Request-Headers: x-a"),
    "request in a body": post(f"{PATH}/xhr_send", SEND),
    "request behind a GET": b"GET /echo/info HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    + b"%d\r\n\r\n" % len(SEND)
    + SEND,
    "blank lines": b"\r\n\r\n" + SEND,
    "garbage": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "half a head": HEAD.encode(),
    "many headers": send("Content-Length: 5", *[f"X-{number}: a" for number in range(60)]),
    "too many headers": send("Content-Length: 5", *[f"X-{number}: a" for number in range(140)]),
    "large header": send("Content-Length: 5", "X-A: " + "a" * 6000),
    "too large header": send("Content-Length: 5", "X-A: " + "a" * 9000),
}
"""What it leaves to aiohttp."""

ALL = PLAIN | ODD


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    made = Twins()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        yield made
    made.stop()


@pytest.mark.parametrize("name", PLAIN)
def test_lane_answers_what_clients_send(twins: Twins, answered: list[str], name: str) -> None:
    twins.compare([PLAIN[name]], "close")
    assert len(answered) == 1


@pytest.mark.parametrize("name", ODD)
def test_lane_leaves_the_rest_to_aiohttp(twins: Twins, answered: list[str], name: str) -> None:
    twins.compare([ODD[name]], "close")
    assert answered == (["xhr_send"] if name == "other server id" else [])


@pytest.mark.parametrize("name", ODD)
def test_lane_begins_again_behind_the_rest_as_aiohttp_does(twins: Twins, name: str) -> None:
    twins.compare([ODD[name], SEND, SEND, POLL], "close")
    twins.compare([SEND, ODD[name] + SEND, SEND, POLL], "close")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("waiting", ["poll", "stream"])
def test_rest_behind_a_response_that_waits_is_answered_in_order(
    twins: Twins, waiting: str, ending: str
) -> None:
    for data in ODD.values():
        twins.compare([PLAIN[waiting], data, SEND], ending)


@pytest.mark.parametrize(
    "names",
    [
        ("send", "poll", "poll"),
        ("poll", "send", "stream"),
        ("chunked", "send", "poll"),
        ("short length", "poll", "poll"),
        ("request in a body", "poll", "poll"),
        ("half a head", "send", "poll"),
    ],
)
def test_data_may_be_cut_at_any_place(twins: Twins, names: tuple[str, ...]) -> None:
    data = b"".join(ALL[name] for name in names)
    for cut in range(1, len(data)):
        twins.compare([data[:cut], data[cut:]], "close")


def test_data_may_come_byte_by_byte(twins: Twins) -> None:
    data = b"".join([POLL, SEND, POLL, SEND, POLL])
    twins.compare([data[at : at + 1] for at in range(len(data))], "close")


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at these places, as far as they are in it."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def changed(data: bytes, seed: int) -> bytes:
    """Change some bytes of `data`."""
    rng = random.Random(seed)
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(made))
        kind = rng.randrange(3)
        if kind == 0:
            made[place] = rng.choice(b"\r\n \t:,;0159aAz/?%\x00\x7f\xff")
        elif kind == 1:
            del made[place]
        else:
            made.insert(place, rng.choice(b"\r\n \t:,;0159aAz/?%\x00\x7f\xff"))
    return bytes(made)


requests = st.sampled_from([*PLAIN.values(), *PLAIN.values(), *ODD.values()])
changed_requests = st.builds(changed, st.sampled_from(list(PLAIN.values())), st.integers(0))


@settings(max_examples=settings().max_examples * 2)
@given(
    st.lists(st.one_of(requests, requests, changed_requests), min_size=1, max_size=6),
    st.lists(st.integers(0, 1500), max_size=6),
    st.booleans(),
    st.sampled_from(ENDINGS),
)
def test_both_answer_equally(
    twins: Twins, whole: list[bytes], cuts: list[int], is_joined: bool, ending: str
) -> None:
    pieces = cut(b"".join(whole), cuts) if is_joined else whole
    twins.compare(pieces, ending)
