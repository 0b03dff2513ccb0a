"""Handshakes answered without aiohttp, and by aiohttp: what comes first on a connection."""

import pytest

from tests.fuzz.server import NEXT
from tests.handshake_twins import answer_alike, new_handshake_twins
from tests.twins import ENDINGS, Twins

MAX_PIECES = 8

_twins: list[Twins] = []


def fuzz_handshake(data: bytes) -> None:
    """Pieces for both servers, `NEXT` between them; SESSION stands for the id of a session.

    How long the input is says how the conversation ends.
    """
    with pytest.MonkeyPatch.context() as patch:  # other tests run in this process, too
        answer_alike(patch)
        if not _twins:
            _twins.append(new_handshake_twins())
        _twins[0].compare(data.split(NEXT)[:MAX_PIECES], ENDINGS[len(data) % len(ENDINGS)])
