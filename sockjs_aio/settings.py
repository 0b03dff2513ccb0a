"""The settings of a router: names, defaults, and what is allowed; checked when they are made."""

import dataclasses
import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sockjs_aio.errors import SettingsError
from sockjs_aio.origins import Origins, is_entry
from sockjs_aio.protocol.transports import TRANSPORTS, switches

if TYPE_CHECKING:
    from aiohttp import web

# sockjs-client puts "ws" in the place of "http", so it has to be a whole URL
_BASE_URL = re.compile(r"https?://[^/?#@\s]+(/[^?#\s]*)?(\?[^?#\s]*)?")

# a browser drops a cookie without a word where these contradict each other
_COOKIE_ATTRIBUTE = re.compile(
    r"Secure|HttpOnly|Partitioned|SameSite=(Strict|Lax|None)|Path=/[!-:<-~]*|Domain=[a-z0-9.-]+"
)

_PROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of HTTP

SetCookie: TypeAlias = "Callable[[web.Request, web.StreamResponse], None]"
"""Sets the cookie for a session request on its response, before the response starts."""


T = TypeVar("T")


def _knowing_its_names(cls: type[T]) -> type[T]:
    """Have the constructor of a dataclass answer a misspelt name with the nearest."""
    construct: Callable[..., None] = vars(cls)["__init__"]
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

    @functools.wraps(construct)
    def check_and_construct(self: T, *values: Any, **settings: Any) -> None:
        for name in settings:
            if name not in names:
                raise SettingsError(_unknown(name, names))
        construct(self, *values, **settings)

    setattr(cls, "__init__", check_and_construct)  # noqa: B010
    return cls


@_knowing_its_names
@dataclass(frozen=True)
class Settings:
    """Everything about a router that can be set.

    Times are in seconds, sizes in bytes.

    Raises:
        SettingsError: If a name is unknown, or a value has the wrong type or is out of range.
    """

    session_check_interval: float = 1
    """Seconds between two looks for due heartbeats and expired sessions; a shorter
    `heartbeat_delay` or `disconnect_delay` makes it as short as that."""
    disconnect_delay: float = 5
    """Seconds that a session lives without a receiving connection."""
    heartbeat_delay: float = 25
    """Seconds of silence after which a receiving connection gets a heartbeat; also the time
    within which a WebSocket peer has to answer a ping."""
    ended_session_delay: float = 300
    """Seconds for which the id of an ended session is remembered: late requests get its close frame
    and do not open it again."""
    max_ended_sessions: int = 10_000
    """Ended sessions that are remembered at a time; beyond, the oldest is forgotten."""
    disabled_transports: Collection[str] = ()
    """Names as in URLs, such as ``"websocket"``; those answer 404."""
    sockjs_url: str = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"
    """The client script that the iframe page loads; has to be of the version that the page uses."""
    response_limit: int = 131072
    """Bytes of frames after which a streaming response ends and the client asks for the next."""
    jsessionid: "bool | str | SetCookie" = False
    """True sets a JSESSIONID cookie for load balancers, a str such as ``"SameSite=None; Secure"``
    one with these attributes; a callable sets the cookie it likes."""
    origins: Origins = "*"
    """Origins such as ``https://example.com`` or ``https://*.example.com`` whose pages may connect,
    a function that returns True for those, or ``*`` for all.  The iframe transports ask from the
    service's own origin: list that too if they are wanted."""
    allow_jsonp_and_frames: bool = False
    """Whether jsonp, htmlfile and the iframe page are served although `origins` is restricted:
    browsers send no ``Origin`` with those, and old ones nothing else that could be trusted."""
    verify_ip: bool = False
    """Whether all requests of a session have to come from the address of its first one."""
    max_message_size: int = 1 << 20
    """Bytes of one request body or WebSocket message; beyond: 413, or close code 1009."""
    max_messages: int = 10_000
    """Messages in one request body or WebSocket message; beyond: 413, or close code 1009."""
    send_queue_limit: int = 4 << 20
    """Bytes queued to one session, transport buffers included; beyond: ``c[1008,...]``."""
    receive_queue_limit: int = 1 << 20
    """Bytes accepted from a session and not handled yet; a full queue delays the next 204."""
    receive_timeout: float = 30
    """Seconds that a request may take to bring its body; beyond: 408."""
    max_sessions: int | None = None
    """Sessions that may exist at a time; beyond: 503.  None for no limit."""
    max_sessions_per_ip: int | None = None
    """Sessions that one address, or one IPv6 network of 64 bits, may have at a time; beyond: 429.
    None for no limit."""
    websocket_compression: bool = False
    """Whether to agree to permessage-deflate, which costs memory and time per connection."""
    protocols: Collection[str] = ()
    """WebSocket subprotocols that are spoken, such as ``v12.stomp``: `info.protocol` has the first
    that the client offers.  A handshake that offers only others is answered 400."""
    base_url: str | None = None
    """The whole URL that ``/info`` tells clients to connect to instead."""
    authorize_timeout: float = 10
    """Seconds that `authorize` may take; beyond: 503."""
    shutdown_timeout: float = 10
    """Seconds that hooks and slow clients have when the application shuts down or drains."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            allowed, is_allowed = _RULES[field.name]
            value = getattr(self, field.name)
            if not is_allowed(value):
                raise SettingsError(
                    f"{field.name}={value!r} cannot be used: it has to be {allowed}"
                    + _wrong_entries(field.name, value)
                )
        if self.allow_jsonp_and_frames and callable(self.origins):
            raise SettingsError(
                "allow_jsonp_and_frames cannot be used with a function as origins: the iframe page "
                "has to name those that may embed it, so list them (patterns are possible)"
            )
        if not any(self.is_enabled(transport) for transport in switches()):
            raise SettingsError(
                "no transport is left: disabled_transports has to leave one, besides jsonp and "
                "htmlfile, which are off where origins is not '*' (see allow_jsonp_and_frames)"
            )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Settings":
        """Make settings of a mapping from names to values.

        Raises:
            SettingsError: If it is no mapping, besides what the constructor raises.
        """
        if not isinstance(mapping, Mapping):
            raise SettingsError(f"settings are a Settings or a mapping, not {mapping!r}")
        return cls(**{str(name): value for name, value in mapping.items()})

    @property
    def tick_interval(self) -> float:
        """Seconds between two looks at what is due."""
        return min(self.session_check_interval, self.heartbeat_delay, self.disconnect_delay)

    def is_enabled(self, transport: str) -> bool:
        """Tell whether `transport`, as in `disabled_transports`, or ``"iframe"`` is served."""
        row = TRANSPORTS.get(transport)
        tells_origin = row is not None and row.tells_origin
        if not tells_origin and self.origins != "*" and not self.allow_jsonp_and_frames:
            return False
        return transport not in self.disabled_transports


def _unknown(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1)
    if nearest:
        return f"there is no setting {name!r}: did you mean {nearest[0]!r}?"
    return f"there is no setting {name!r}: the settings are {', '.join(sorted(names))}"


Rule = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_script_url(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and not set(value) & set("\"'<> \t\r\n")


def _are_cookie_attributes(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    attributes = value.split("; ")
    names = {attribute.partition("=")[0] for attribute in attributes}
    is_for_other_sites = "SameSite=None" in attributes or "Partitioned" in attributes
    return (
        all(map(_COOKIE_ATTRIBUTE.fullmatch, attributes))
        and len(names) == len(attributes)
        and ("Secure" in attributes or not is_for_other_sites)
    )


def _are_origins(value: Any) -> bool:
    if callable(value):
        return not inspect.iscoroutinefunction(value)
    return value == "*" or (_is_collection(value) and all(map(is_entry, value)))


def _is_collection(value: Any) -> bool:
    return isinstance(value, Collection) and not isinstance(value, (str, bytes))


def _is_transport(value: Any) -> bool:
    return value in switches()


def _are_transports(value: Any) -> bool:
    return _is_collection(value) and all(map(_is_transport, value))


def _is_protocol(value: Any) -> bool:
    return isinstance(value, str) and _PROTOCOL.fullmatch(value) is not None


def _are_protocols(value: Any) -> bool:
    return _is_collection(value) and all(map(_is_protocol, value))


def _wrong_entries(name: str, value: Any) -> str:
    """Say which entries of a list are not allowed."""
    is_allowed = {
        "origins": is_entry,
        "disabled_transports": _is_transport,
        "protocols": _is_protocol,
    }.get(name)
    if is_allowed is None or not _is_collection(value):
        return ""
    wrong = [repr(entry) for entry in value if not is_allowed(entry)]
    return f"; {', '.join(wrong)} cannot be on it"


_DELAY: Rule = ("a number of seconds above 0", lambda value: _is_number(value) and value > 0)
_SIZE: Rule = ("a whole number of bytes above 0", _is_size)
_FLAG: Rule = ("True or False", _is_boolean)
_LIMIT: Rule = (
    "a whole number above 0, or None for no limit",
    lambda value: value is None or _is_size(value),
)
_RULES: dict[str, Rule] = {
    "session_check_interval": _DELAY,
    "disconnect_delay": _DELAY,
    "heartbeat_delay": _DELAY,
    "ended_session_delay": _DELAY,
    "max_ended_sessions": ("a whole number above 0", _is_size),
    "disabled_transports": (
        f"a list of names out of {', '.join(switches())} (as in URLs: sockjs-client's xhr-polling "
        "is xhr, its jsonp-polling is jsonp)",
        _are_transports,
    ),
    "sockjs_url": ("the URL of a script, without quotes, spaces, < or >", _is_script_url),
    "response_limit": _SIZE,
    "jsessionid": (
        'True, False, attributes like "SameSite=None; Secure" (of Secure, HttpOnly, Partitioned, '
        "SameSite=, Path=, Domain=; each once, SameSite=None and Partitioned with Secure), or a "
        "callable that takes the request and the response",
        lambda value: _is_boolean(value) or callable(value) or _are_cookie_attributes(value),
    ),
    "origins": (
        '"*", or a list of origins as browsers write them, like "https://example.com" (lower case, '
        "no path, no slash at the end, no port 80 or 443), or of their subdomains, like "
        '"https://*.example.com", or a plain function that takes an origin',
        _are_origins,
    ),
    "allow_jsonp_and_frames": _FLAG,
    "verify_ip": _FLAG,
    "max_message_size": _SIZE,
    "max_messages": ("a whole number above 0", _is_size),
    "send_queue_limit": _SIZE,
    "receive_queue_limit": _SIZE,
    "receive_timeout": _DELAY,
    "max_sessions": _LIMIT,
    "max_sessions_per_ip": _LIMIT,
    "websocket_compression": _FLAG,
    "protocols": (
        'a list of names of WebSocket subprotocols, like "v12.stomp"',
        _are_protocols,
    ),
    "base_url": (
        "a whole URL such as https://example.com/chat, without # and user, or None",
        lambda value: value is None or bool(isinstance(value, str) and _BASE_URL.fullmatch(value)),
    ),
    "authorize_timeout": _DELAY,
    "shutdown_timeout": (
        "a number of seconds, 0 or above",
        lambda value: _is_number(value) and value >= 0,
    ),
}
