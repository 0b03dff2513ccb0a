"""Strategies for messages: all of Unicode, lone surrogates and what must be escaped preferred."""

import json
import re
from typing import Any

from hypothesis import strategies as st

# PROTOCOL, "Characters"
FRAGILE = "\x00-\x1f\u200c-\u200f\u2028-\u202f\u2060-\u206f\ufff0-\uffff\ud800-\udfff"
FORBIDDEN = re.compile(f"[{FRAGILE}]")

fragile = st.one_of(
    [
        st.characters(min_codepoint=ord(first), max_codepoint=ord(last), exclude_categories=())
        for first, last in re.findall("(.)-(.)", FRAGILE, re.DOTALL)
    ]
)
characters = st.one_of(
    st.characters(exclude_categories=()), fragile, st.sampled_from('"\\/<%+&\x7f\x85\u00a0')
)
texts = st.text(characters)
lists = st.lists(texts, max_size=8)

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def dumped(value: Any, ascii_only: bool, indent: int | None) -> str:
    """Write `value` as JSON."""
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent)


json_texts = st.builds(dumped, values, st.booleans(), st.sampled_from([None, 0, 2]))
"""JSON, compact or with line breaks."""

tokens = st.sampled_from(
    [
        *("[", "]", ",", '"', '"a"', '"\\u12', '"\\ud83d"', "\\", "{", "}", ":", "1", "-", "e9"),
        *(" ", "\n", "\t", "\f", "\xa0", "\x00", "\ufeff", "\u2028", "é"),
        *("NaN", "Infinity", "null", "true"),
    ]
)
almost_json = st.lists(tokens | texts, max_size=10).map("".join)


def damaged(text: str, at: int, by: str) -> str:
    """Put `by` somewhere into `text`."""
    at %= len(text) + 1
    return text[:at] + by + text[at:]


payloads = st.one_of(
    json_texts,
    st.builds(dumped, lists, st.booleans(), st.none()),
    st.builds(damaged, st.builds(dumped, lists, st.booleans(), st.none()), st.integers(0), tokens),
    almost_json,
)
"""What a client might send: JSON, arrays of strings, almost those, and not at all."""
