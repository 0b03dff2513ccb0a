"""The direct lane and aiohttp, given the same bytes, answer the same bytes.

Whatever the lane takes although aiohttp would read it in another way could be used to put a request
of one client behind that of another (request smuggling).
"""

import pytest

from tests.cases import case
from tests.direct_bytes import ALL, ODD, PLAIN, POLL, SEND
from tests.lanes import answered as answered
from tests.twins import ENDINGS, Twins
from tests.twins import tls_twins as tls_twins
from tests.twins import twins as twins


def test_lane_answers_what_clients_send(twins: Twins, answered: list[str]) -> None:
    for name, data in PLAIN.items():
        with case(name):
            answered.clear()
            twins.compare([data], "close")
            assert len(answered) == 1


def test_lane_leaves_the_rest_to_aiohttp(twins: Twins, answered: list[str]) -> None:
    for name, data in ODD.items():
        with case(name):
            answered.clear()
            twins.compare([data], "close")
            assert answered == (["xhr_send"] if name == "other server id" else [])


def test_lane_begins_again_behind_the_rest_as_aiohttp_does(twins: Twins) -> None:
    twins.compare_each([[data, SEND, SEND, POLL] for data in ODD.values()], "close")
    twins.compare_each([[SEND, data + SEND, SEND, POLL] for data in ODD.values()], "close")


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("waiting", ["poll", "stream"])
def test_rest_behind_a_response_that_waits_is_answered_in_order(
    twins: Twins, waiting: str, ending: str
) -> None:
    twins.compare_each([[PLAIN[waiting], data, SEND] for data in ODD.values()], ending)


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
    twins.compare_each([[data[:cut], data[cut:]] for cut in range(1, len(data))], "close")


def test_data_may_come_byte_by_byte(twins: Twins) -> None:
    data = b"".join([POLL, SEND, POLL, SEND, POLL])
    twins.compare([data[at : at + 1] for at in range(len(data))], "close")


@pytest.mark.programs
@pytest.mark.parametrize("ending", ENDINGS)
def test_all_is_answered_equally_over_tls(tls_twins: Twins, ending: str) -> None:
    tls_twins.compare_each([[data, SEND, POLL] for data in ALL.values()], ending)
    tls_twins.compare_each([[POLL, data + SEND, POLL] for data in ALL.values()], ending)
