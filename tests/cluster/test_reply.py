"""Where a response ends, however its bytes come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockjs_aio.cluster.reply import MAX_HEAD, Reply, ReplyBroken

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
RESPONSES = {
    "length": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "empty": HEAD + b"Content-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\nVary: Origin\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n"
    b"\r\n0\r\n\r\nxxxxxxxxx\r\n0\r\n\r\n",
    "no chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", RESPONSES)
@given(data=st.data())
def test_a_response_ends_with_its_last_byte_however_it_comes(
    name: str, data: st.DataObject
) -> None:
    response = RESPONSES[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(response) - 1))))
    reply = Reply()
    for start, end in zip([0, *cuts], [*cuts, len(response)], strict=True):
        assert not reply.is_complete
        reply.feed(response[start:end])
    assert reply.is_complete
    assert reply.keeps_alive
    assert reply.end()


def test_a_response_without_length_ends_with_its_connection() -> None:
    reply = Reply()
    reply.feed(b"HTTP/1.0 200 OK\r\n\r\nhel")
    reply.feed(b"lo")
    assert not reply.is_complete
    assert reply.end()
    assert not reply.keeps_alive


def test_a_connection_that_ends_before_the_response_is_no_end() -> None:
    for name in ("length", "chunks"):
        for size in range(len(RESPONSES[name])):
            reply = Reply()
            reply.feed(RESPONSES[name][:size])
            assert not reply.end()


@pytest.mark.parametrize(
    "head, kept",
    [
        (b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nconnection: Keep-Alive\r\n\r\n", True),
        (b"HTTP/1.0 204 No Content\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.0 204 No Content\r\n\r\n", False),
    ],
)
def test_a_response_says_whether_its_connection_stays(head: bytes, kept: bool) -> None:
    reply = Reply()
    reply.feed(head)
    assert reply.keeps_alive is kept
    assert (reply.status, reply.reason) == (204, "No Content")


def test_chunks_are_told_from_what_is_between_them() -> None:
    reply = Reply()
    stream = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    reply.feed(stream)
    assert reply.is_at_boundary
    for piece, is_at_boundary in [
        (b"5", False),
        (b"\r\n", False),
        (b"hello", False),
        (b"\r", False),
        (b"\n", True),
        (b"1\r\na\r\n", True),
        (b"1\r\na\r\n2", False),
        (b"\r\nab\r\n", True),
        (b"0\r\n", False),
        (b"\r\n", False),
    ]:
        reply.feed(piece)
        assert reply.is_at_boundary is is_at_boundary, piece
    assert reply.is_complete


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"x" * (MAX_HEAD + 1),
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1, 1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\n\r\nxy",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 50,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
    ],
)
def test_what_no_process_of_ours_sends_is_an_error(response: bytes) -> None:
    with pytest.raises(ReplyBroken):
        Reply().feed(response)


def test_what_follows_a_response_is_an_error() -> None:
    reply = Reply()
    reply.feed(RESPONSES["length"])
    with pytest.raises(ReplyBroken):
        reply.feed(b"HTTP/1.1 200 OK\r\n")
