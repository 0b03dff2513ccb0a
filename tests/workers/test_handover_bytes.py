"""Workers that hand connections over answer the same bytes as a single process."""

import secrets
from collections.abc import Iterator

import pytest

from sockjs_aio.cluster.workers import handover_links
from tests.cases import case
from tests.direct_bytes import ALL, ODD, PLAIN, POLL, SEND
from tests.lanes import note_answers
from tests.twins import ENDINGS, Twin, Twins, post
from tests.workers.handing_over import COUNT, OTHERS, HandingOver

pytestmark = pytest.mark.skipif(
    not handover_links.is_possible(), reason="this system cannot pass sockets in messages"
)


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "no lane"])
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    workers = HandingOver(request.param)
    made = Twins(workers, Twin(False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secrets, "randbits", lambda _: 7)  # what /info answers
        answered = note_answers(patch)
        yield made
    assert sum(handovers.count for handovers in workers.handovers) > 0
    assert bool(answered) is request.param
    made.stop()


def test_what_comes_over_a_connection_is_answered(twins: Twins) -> None:
    for name, data in ALL.items():
        with case(name):
            twins.compare([data], "close")


@pytest.mark.parametrize("ending", ENDINGS)
def test_however_it_ends(twins: Twins, ending: str) -> None:
    for name, data in PLAIN.items():
        with case(name):
            twins.compare([data, SEND, POLL], ending)


def test_what_comes_behind_is_not_taken_for_something_else(twins: Twins) -> None:
    for name, data in ODD.items():
        with case(name):
            twins.compare([data, SEND, SEND, POLL], "close")
            twins.compare([data + SEND, SEND, POLL], "close")


@pytest.mark.parametrize("owner", range(COUNT))
def test_sessions_of_other_workers_come_between(twins: Twins, owner: int) -> None:
    other = SEND.replace(b"SESSION", OTHERS[owner].encode())
    for name, data in ODD.items():
        with case(name):
            twins.compare([other, data, other, SEND, POLL], "close")
            twins.compare([other + data, other + SEND + other, POLL], "close")


@pytest.mark.parametrize("part", range(4))
def test_it_may_be_cut_at_any_place(twins: Twins, part: int) -> None:
    # without bodies: a relay closes a connection on which the body of a refused request is to come
    first, second, third = (post(f"/echo/000/other-{number}/xhr_send") for number in range(3))
    data = b"".join([first, SEND, second, POLL, third])
    for cut in range(1 + part, len(data), 4):
        twins.compare([data[:cut], data[cut:]], "close")
