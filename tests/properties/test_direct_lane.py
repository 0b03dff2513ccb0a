"""The direct lane and aiohttp answer equally, whatever comes, in whatever pieces."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from tests.direct_bytes import ODD, PLAIN
from tests.twins import ENDINGS, Twins
from tests.twins import twins as twins


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at these places, as far as they are in it."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def changed(data: bytes, seed: int) -> bytes:
    """Change some bytes of `data`."""
    rng = random.Random(seed)
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(made))
        kind = rng.randrange(3)
        if kind == 0:
            made[place] = rng.choice(b"\r\n \t:,;0159aAz/?%\x00\x7f\xff")
        elif kind == 1:
            del made[place]
        else:
            made.insert(place, rng.choice(b"\r\n \t:,;0159aAz/?%\x00\x7f\xff"))
    return bytes(made)


requests = st.sampled_from([*PLAIN.values(), *PLAIN.values(), *ODD.values()])
changed_requests = st.builds(changed, st.sampled_from(list(PLAIN.values())), st.integers(0))


@given(
    st.lists(st.one_of(requests, requests, changed_requests), min_size=1, max_size=6),
    st.lists(st.integers(0, 1500), max_size=6),
    st.booleans(),
    st.sampled_from(ENDINGS),
)
def test_both_answer_equally(
    twins: Twins, whole: list[bytes], cuts: list[int], is_joined: bool, ending: str
) -> None:
    pieces = cut(b"".join(whole), cuts) if is_joined else whole
    twins.compare(pieces, ending)
