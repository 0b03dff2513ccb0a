"""Handshakes that are answered without aiohttp, and by aiohttp: the same bytes, the same sessions.

What one of the two takes for a handshake and the other does not could be used to put a request of
one client behind that of another (request smuggling).
"""

import pytest

from tests.cases import case
from tests.direct_bytes import HANDSHAKES, LEAVING, ODD_HANDSHAKES, POLL, SEND, asking, text
from tests.handshake_twins import handshake_twins as handshake_twins
from tests.handshake_twins import tls_handshake_twins as tls_handshake_twins
from tests.lanes import answered as answered
from tests.twins import ENDINGS, Twins

MESSAGE = text(b'"a"')


def test_what_clients_send_is_answered(handshake_twins: Twins, answered: list[str]) -> None:
    for name, data in HANDSHAKES.items():
        with case(name):
            answered.clear()
            handshake_twins.compare([data], "close")
            assert len(answered) == 1


def test_rest_is_left_to_aiohttp(handshake_twins: Twins, answered: list[str]) -> None:
    for name, data in ODD_HANDSHAKES.items():
        with case(name):
            answered.clear()
            handshake_twins.compare([data], "close")
            assert not answered


@pytest.mark.parametrize("ending", ENDINGS)
def test_conversations_go_on_equally(handshake_twins: Twins, ending: str) -> None:
    for name, data in HANDSHAKES.items():
        with case(name):
            handshake_twins.compare([data, MESSAGE, MESSAGE], ending)
            handshake_twins.compare([data, MESSAGE + LEAVING, MESSAGE], ending)


@pytest.mark.parametrize("ending", ENDINGS)
def test_rest_goes_on_equally_too(handshake_twins: Twins, ending: str) -> None:
    for name, data in ODD_HANDSHAKES.items():
        with case(name):
            handshake_twins.compare([data, asking(), POLL], ending)
            handshake_twins.compare([data + asking(), SEND], ending)


@pytest.mark.parametrize("name", ["Chrome", "Chrome, raw", "messages behind it", "query"])
def test_handshake_may_be_cut_at_any_place(handshake_twins: Twins, name: str) -> None:
    data = HANDSHAKES[name]
    for cut in range(1, len(data)):
        handshake_twins.compare([data[:cut], data[cut:]], "close")


def test_handshake_may_come_byte_by_byte(handshake_twins: Twins) -> None:
    data = HANDSHAKES["its end behind it"]
    handshake_twins.compare([data[at : at + 1] for at in range(len(data))], "close")


def test_connection_may_begin_with_anything(handshake_twins: Twins) -> None:
    for first in (POLL, SEND, POLL[:-1], b"\r\n"):
        handshake_twins.compare([first, asking(), MESSAGE], "close")
        handshake_twins.compare([first + asking(), MESSAGE], "close")


@pytest.mark.programs
@pytest.mark.parametrize("ending", ENDINGS)
def test_all_goes_on_equally_over_tls(tls_handshake_twins: Twins, ending: str) -> None:
    for name, data in {**HANDSHAKES, **ODD_HANDSHAKES}.items():
        with case(name):
            tls_handshake_twins.compare([data, MESSAGE + LEAVING, POLL], ending)
