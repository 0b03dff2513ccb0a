"""Workers that hand connections over beside a single process: what comes on one connection."""

import secrets

import pytest

from tests.fuzz.lane import MAX_PIECES
from tests.fuzz.server import NEXT
from tests.twins import ENDINGS, Twin, Twins
from tests.workers.handing_over import OTHERS, HandingOver

CLOSING = b"Connection: close\r\n"

_twins: list[Twins] = []


def fuzz_handover(data: bytes) -> None:
    """As for the lane; OTHER0, OTHER1 and so on stand for ids that belong to each worker."""
    if not _twins:
        _twins.append(Twins(HandingOver(True), Twin(False)))
    ending = ENDINGS[len(data) % len(ENDINGS)]
    for number, name in enumerate(OTHERS):
        data = data.replace(b"OTHER%d" % number, name.encode())
    pieces = data.split(NEXT)[:MAX_PIECES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        one, other = _twins[0].answers(pieces, ending)
    assert one == other or ends_earlier(one, other), f"{pieces}, {ending}:\n{one!r}\n{other!r}"


def ends_earlier(one: bytes, other: bytes) -> bool:
    """Tell whether `one` closes the connection, and `other` only answers what comes next too.

    A relay closes a connection on which the body of a refused request is to come.
    """
    first = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    rest = one[first:]
    is_closing = rest.startswith(CLOSING) and rest.endswith(b"!")
    return is_closing and other.startswith(rest[len(CLOSING) : -1], first)
