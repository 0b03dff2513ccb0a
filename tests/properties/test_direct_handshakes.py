"""Handshakes answered without aiohttp and by aiohttp are answered equally, whatever comes."""

from hypothesis import given
from hypothesis import strategies as st

from tests.direct_bytes import HANDSHAKES, LEAVING, ODD_HANDSHAKES, POLL, text
from tests.handshake_twins import handshake_twins as handshake_twins
from tests.properties.test_direct_lane import changed, cut
from tests.twins import ENDINGS, Twins

handshakes = st.sampled_from([*HANDSHAKES.values(), *HANDSHAKES.values(), *ODD_HANDSHAKES.values()])
changed_handshakes = st.builds(changed, st.sampled_from(list(HANDSHAKES.values())), st.integers(0))
rests = st.sampled_from([text(b'"a"'), text(b'["b","c"]'), text(b"["), LEAVING, POLL, b"\r\n"])


@given(
    st.one_of(handshakes, changed_handshakes, changed_handshakes),
    st.lists(rests, max_size=3),
    st.lists(st.integers(0, 1000), max_size=3),
    st.booleans(),
    st.sampled_from(ENDINGS),
)
def test_both_answer_equally(
    handshake_twins: Twins,
    first: bytes,
    more: list[bytes],
    cuts: list[int],
    is_joined: bool,
    ending: str,
) -> None:
    pieces = cut(b"".join([first, *more]), cuts) if is_joined else [first, *more]
    handshake_twins.compare(pieces, ending)
