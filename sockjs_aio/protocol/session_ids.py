"""The ids in a session's URL."""

import re
from urllib.parse import unquote_to_bytes

MAX_ID_LENGTH = 256

# aiohttp joins it with what follows, and decodes once more: %2%46 becomes %2F, and that a slash
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
# no line ends of any kind: ids are written to logs
_FORBIDDEN_IN_ID = re.compile(r"[./\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_valid_id(segment: str) -> bool:
    """Tell whether `segment` of a URL's path, still encoded, may be a server or session id."""
    if len(segment) > MAX_ID_LENGTH:
        return False
    if segment.isascii() and segment.isalnum():  # as sockjs-client's are: nothing to decode
        return True
    if _BROKEN_ESCAPE.search(segment):
        return False
    try:
        decoded = unquote_to_bytes(segment).decode()
    except UnicodeError:  # aiohttp's parser in Python, unlike the one in C, lets any bytes pass
        return False
    return _FORBIDDEN_IN_ID.search(decoded) is None
