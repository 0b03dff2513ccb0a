"""The costliest payloads, forms and messages that are known, a megabyte each."""

import json

MIB = 1 << 20


def filled(head: str, unit: str, tail: str) -> bytes:
    """Repeat `unit` between `head` and `tail` to a megabyte."""
    room = MIB - len(head.encode()) - len(tail.encode())
    return (head + unit * (room // len(unit.encode())) + tail).encode()


PAYLOADS = {
    "arrays": filled("[", "[],", "[]]"),
    "arrays-behind-a-message": filled('["a",', "[],", "[]]"),
    "arrays-in-arrays": filled("[", "[" * 400 + "]" * 400 + ",", "[]]"),
    "arrays-behind-brackets": filled('["' + "[" * 1000 + '",', "[[]],", "[]]"),
    "arrays-of-messages": filled("[", '["a"],', '"a"]'),
    "deep-arrays": b"[" * MIB,
    "objects": filled("[", "{},", "{}]"),
    "objects-with-names": filled("[", '{"a":"b"},', "{}]"),
    "numbers": filled("[", "1,", "1]"),
    "fractions": filled("[", "1.5,", "1]"),
    "digits": b"[" + b"9" * (MIB - 2) + b"]",
    "empty-messages": filled("[", '"",', '""]'),
    "messages": filled("[", '"a",', '"a"]'),
    "messages-not-ascii": filled("[", '"é",', '"a"]'),
    "messages-of-brackets": filled("[", '"[",', '"a"]'),
    "most-messages": json.dumps(["[" + "x" * 95] * 10_000).encode(),
    "blanks": filled('["a"', " ", "]"),
    "blanks-between": filled("[" + '"a", ' * 9_000, "\n", '"a"]'),
    "letters": filled('["', "a", '"]'),
    "escapes": filled('["', "\\n", '"]'),
    "escapes-between": filled('["', "a\\n", '"]'),
    "quotes": filled('["', '\\"', '"]'),
    "nested-json": filled('["', '{\\"a\\":[]},', '"]'),
    "code-points": filled('["', "\\u200c", '"]'),
    "pairs": filled('["', "\\ud83d\\ude00", '"]'),
    "half-pairs": filled('["', "\\ud800", '"]'),
    "half-pairs-in-messages": filled('["","[[[",', '"\\ud800",', '""]'),
    "fragile": filled('["', "\u200c", '"]'),
    "unfinished": filled('["', "\\n", '"'),
    "not-utf-8": b"\xff" * MIB,
    "nearly-utf-8": "é".encode() * (MIB // 2 - 1) + b"\xc3",
}

FORMS = {
    "separators": b"&" * MIB,
    "percent-in-names": b"%&" * (MIB // 2),
    "nearly-the-name": b"&d+" * (MIB // 3),
    "nearly-the-escaped-name": b"&%64+" * (MIB // 5),
    "percent-signs": b"d=" + b"%" * (MIB - 2),
    "half-escapes": b"d=" + b"%4" * (MIB // 2 - 1),
    "no-hex": b"d=" + b"%zz" * (MIB // 3 - 1),
    "escapes": b"d=" + b"%41" * (MIB // 3 - 1),
    "escapes-and-letters": b"d=" + b"%41a" * (MIB // 4 - 1),
    "escapes-and-pluses": b"d=" + b"%41+" * (MIB // 4 - 1),
    "mixed-escapes": b"d=" + b"%41a%" * (MIB // 5 - 1),
    "line-ends": b"d=" + b"%\n" * (MIB // 2 - 1),
    "pluses": b"d=" + b"+" * (MIB - 2),
    "equals-signs": b"d=" + b"=" * (MIB - 2),
    "escaped-arrays": b"d=%5B" + b"%5B%5D%2C" * (MIB // 9 - 1) + b"%5D",
}


TEXTS = {
    "letters": "a" * MIB,
    "quotes": '"' * MIB,
    "backslashes": "\\" * MIB,
    # six bytes each: of a megabyte of these htmlfile and jsonp make six, in 25 ms
    "controls": "\0" * (MIB // 2),
    "controls-not-ascii": "\0" * (MIB // 2) + "é",
    "less-than": "<" * (MIB // 2),
    "percent-signs": "%" * MIB,
    "chinese": "中" * (MIB // 3),
    "latin": "é" * (MIB // 2),
    "smileys": "😀" * (MIB // 4),
    "fragile": "\u200c" * (MIB // 3),
    "fragile-between": "a\u200c" * (MIB // 4),
    "fragile-seldom": ("a" * 250 + "\u200c") * (MIB // 253),
    "half-pairs": "\ud800" * (MIB // 6),
    "half-pairs-between": "a\ud800" * (MIB // 7),
}
