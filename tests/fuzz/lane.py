"""The direct lane beside aiohttp: what comes on one connection, in pieces."""

import secrets
import tempfile
from pathlib import Path

import pytest

from tests.fuzz.server import NEXT
from tests.twins import ENDINGS, Twins, new_tls_twins

MAX_PIECES = 8

_twins: list[Twins] = []
_tls_twins: list[Twins] = []


def fuzz_lane(data: bytes) -> None:
    """Pieces for both servers, `NEXT` between them; SESSION stands for the id of a session.

    How long the input is says how the conversation ends.
    """
    if not _twins:
        _twins.append(Twins())
    _compare(_twins[0], data)


def fuzz_lane_tls(data: bytes) -> None:
    """The same over TLS."""
    if not _tls_twins:
        with tempfile.TemporaryDirectory() as directory:
            _tls_twins.append(new_tls_twins(Path(directory)))
    _compare(_tls_twins[0], data)


def _compare(twins: Twins, data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        twins.compare(data.split(NEXT)[:MAX_PIECES], ENDINGS[len(data) % len(ENDINGS)])
