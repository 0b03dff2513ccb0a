"""The direct lane beside aiohttp: what comes on one connection, in pieces."""

import secrets

import pytest

from tests.fuzz.server import NEXT
from tests.twins import ENDINGS, Twins

MAX_PIECES = 8

_twins: list[Twins] = []


def fuzz_lane(data: bytes) -> None:
    """Pieces for both servers, `NEXT` between them; SESSION stands for the id of a session.

    How long the input is says how the conversation ends.
    """
    if not _twins:
        _twins.append(Twins())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        _twins[0].compare(data.split(NEXT)[:MAX_PIECES], ENDINGS[len(data) % len(ENDINGS)])
