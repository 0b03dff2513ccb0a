"""RFC 7692, section 7: which offers are accepted, and what a message takes and leaves."""

import sys
import zlib

import pytest

from sockjs_aio.protocol.deflate import Deflate, Deflater, Inflater, agree
from sockjs_aio.protocol.ends import ClientEndedError


@pytest.mark.parametrize(
    ("offers", "agreed"),
    [
        ("permessage-deflate", Deflate()),
        (" permessage-deflate ; client_max_window_bits ", Deflate()),
        ("permessage-deflate; client_max_window_bits=15", Deflate()),
        ("permessage-deflate; server_no_context_takeover", Deflate(keeps_ours=False)),
        ("permessage-deflate; client_no_context_takeover", Deflate(keeps_theirs=False)),
        ("permessage-deflate; server_max_window_bits = 9", Deflate(bits=9)),
        ('permessage-deflate; server_max_window_bits="12"', Deflate(bits=12)),
        ("x, permessage-deflate; x, permessage-deflate; server_max_window_bits=10", Deflate(10)),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Deflate()),
        ("permessage-deflate; server_max_window_bits=010", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate;", None),
        ("permessage-deflate-2", None),
        ("", None),
        (",;=,", None),
    ],
)
def test_first_offer_that_we_can_keep_is_accepted(offers: str, agreed: Deflate | None) -> None:
    assert agree(offers) == agreed


@pytest.mark.parametrize("agreed", [Deflate(), Deflate(9, False, False)])
def test_answer_says_what_was_agreed(agreed: Deflate) -> None:
    assert agree(str(agreed)) == agreed


def test_a_message_may_have_any_size() -> None:
    for limit in (sys.maxsize, 10**400):  # zlib takes no larger number than the first
        assert Inflater(Deflate()).inflate(Deflater(Deflate()).deflate(b"x"), limit) == b"x"


@pytest.mark.parametrize("agreed", [Deflate(), Deflate(9), Deflate(15, False, False)])
def test_messages_are_packed_and_unpacked(agreed: Deflate) -> None:
    deflater, inflater = Deflater(agreed), Inflater(agreed)
    sizes = []
    for message in [b"", b"x" * 1000, b"x" * 1000, bytes(range(256)) * 10, b""]:
        packed = deflater.deflate(message)
        sizes.append(len(packed))
        assert inflater.inflate(packed, 10_000) == message
    assert (sizes[2] < sizes[1]) == agreed.keeps_ours, "the second refers to the first"


def test_each_message_stands_alone_without_context() -> None:
    deflater = Deflater(Deflate(keeps_ours=False))
    for _ in range(2):
        packed = deflater.deflate(b"some text, some text")
        assert (
            zlib.decompressobj(-15).decompress(packed + b"\0\0\xff\xff") == b"some text, some text"
        )


def test_message_may_end_with_the_last_block_of_all() -> None:
    inflater = Inflater(Deflate())
    for number in range(2):
        packer = zlib.compressobj(wbits=-15)
        text = b"message %d" % number
        assert inflater.inflate(packer.compress(text) + packer.flush(), 100) == text


@pytest.mark.parametrize(
    ("packed", "code"),
    [(b"\xff\xff", 1007), (Deflater(Deflate()).deflate(b"x" * 101), 1009)],
)
def test_what_is_broken_or_too_big_is_refused(packed: bytes, code: int) -> None:
    with pytest.raises(ClientEndedError) as caught:
        Inflater(Deflate()).inflate(packed, 100)
    assert caught.value.code == code
