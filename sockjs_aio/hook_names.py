"""The names of the hooks, and what people write instead of them."""

import difflib
import inspect
from typing import Any

HOOKS = ("on_open", "on_message", "on_close", "on_gap")

_OURS = {hook.replace("_", ""): hook for hook in HOOKS}
_ELSEWHERE = {"onconnect": "on_open", "ondisconnect": "on_close", "onreceive": "on_message"}
"""The names that other libraries use for these hooks."""


def is_coroutine_function(function: Any) -> bool:
    """Tell whether `function`, which may be decorated, is a coroutine function."""
    function = inspect.unwrap(function)
    if not callable(function):
        return False
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def meant_hook(name: str) -> str | None:
    """Return the hook whose name is close to `name`, if there is one."""
    plain = name.replace("_", "").lower()
    if not plain.startswith("on") or name.startswith(("on_open_", "on_message_", "on_close_")):
        return None
    known = _OURS | _ELSEWHERE
    # "once_closed" is one letter further away than "on_clsoe"
    cutoff = 0.83 if name.startswith("on_") else 0.9
    return known.get("".join(difflib.get_close_matches(plain, known, n=1, cutoff=cutoff)))
