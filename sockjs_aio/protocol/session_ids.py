"""Which server ids and session ids a URL may have."""

import re
from urllib.parse import unquote_to_bytes

MAX_ID_LENGTH = 256

# aiohttp joins it with what follows and decodes again: %2%46 becomes %2F, and then a slash
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
# no line ends of any kind, because ids are written to logs
_FORBIDDEN_IN_ID = re.compile(r"[./\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_valid_id(segment: str) -> bool:
    """Tell whether `segment`, a part of a URL's path, still encoded, is a valid id."""
    if len(segment) > MAX_ID_LENGTH:
        return False
    if segment.isascii() and segment.isalnum():  # like sockjs-client's ids: nothing to decode
        return True
    if _BROKEN_ESCAPE.search(segment):
        return False
    try:
        decoded = unquote_to_bytes(segment).decode()
    except UnicodeError:  # aiohttp's Python parser, unlike its C parser, lets any bytes pass
        return False
    return _FORBIDDEN_IN_ID.search(decoded) is None
