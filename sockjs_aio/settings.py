"""The settings of a router: names, defaults and allowed values, checked when you create them."""

import dataclasses
import difflib
import functools
import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from sockjs_aio.errors import SettingsError
from sockjs_aio.origins import Origins, is_entry
from sockjs_aio.protocol.transports import TRANSPORTS, switches

if TYPE_CHECKING:
    from aiohttp import web

# sockjs-client replaces "http" by "ws", so it must be a whole URL
_BASE_URL = re.compile(r"https?://(?!:)[^/?#@%\s]+(/[^?#\s]*)?(\?[^?#\s]*)?")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

# browsers silently drop a cookie whose attributes contradict each other
_COOKIE_ATTRIBUTE = re.compile(
    r"Secure|HttpOnly|Partitioned|SameSite=(Strict|Lax|None)|Path=/[!-:<-~]*|Domain=[a-z0-9.-]+"
)

_PROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, as HTTP defines it

SetCookie: TypeAlias = "Callable[[web.Request, web.StreamResponse], None]"
"""Sets the cookie on the response to a session request, before the response starts."""


T = TypeVar("T")


def _knowing_its_names(cls: type[T]) -> type[T]:
    """Make a dataclass suggest the nearest name when an argument is misspelt."""
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
    """The settings of a router.  Times are in seconds, sizes in bytes.

    Raises:
        SettingsError: If a name is unknown, or a value has the wrong type or is out of range.
    """

    session_check_interval: float = 1
    """Seconds between two checks for due heartbeats and expired sessions.  If `heartbeat_delay` or
    `disconnect_delay` is shorter, that is used instead."""
    disconnect_delay: float = 5
    """Seconds that a session lives without a receiving connection."""
    heartbeat_delay: float = 25
    """Seconds of silence after which a receiving connection gets a heartbeat.  A WebSocket client
    has the same time to answer a ping."""
    ended_session_delay: float = 300
    """Seconds for which the server remembers the id of an ended session.  Late requests get its
    close frame and do not open it again."""
    max_ended_sessions: int = 10_000
    """How many ended sessions to remember.  Above it, the oldest is forgotten."""
    disabled_transports: Collection[str] = ()
    """Names of transports as in URLs, such as ``"websocket"``.  Their URLs answer 404."""
    sockjs_url: str = "https://cdn.jsdelivr.net/npm/sockjs-client@1.6.1/dist/sockjs.min.js"
    """The client script that the iframe page loads.  It must have the version that your page uses.
    """
    response_limit: int = 131072
    """Bytes of frames after which a streaming response ends; the client then asks for the next."""
    jsessionid: "bool | str | SetCookie" = False
    """True sets a JSESSIONID cookie for load balancers.  A str such as ``"SameSite=None; Secure"``
    sets it with these attributes.  A callable sets any cookie you like."""
    origins: Origins = "*"
    """The origins whose pages may connect, such as ``https://example.com`` or
    ``https://*.example.com``; a function that returns True for an allowed origin; or ``*`` for all.
    The iframe transports connect from the service's own origin: list it too if you want them."""
    allow_jsonp_and_frames: bool = False
    """Whether to serve jsonp, htmlfile and the iframe page although `origins` is restricted.
    Browsers send no ``Origin`` with these, and old browsers send nothing else that you can trust.
    """
    verify_ip: bool = False
    """Whether all requests of a session must come from the address of its first request."""
    max_message_size: int = 1 << 20
    """Bytes of one request body or WebSocket message.  Above it: 413, or close code 1009."""
    max_messages: int = 10_000
    """Messages in one request body or WebSocket message.  Above it: 413, or close code 1009."""
    send_queue_limit: int = 4 << 20
    """Bytes queued for one client, including transport buffers.  Above it: ``c[1008,...]``."""
    receive_queue_limit: int = 1 << 20
    """Bytes received from one client and not handled yet.  A full queue delays the next 204."""
    message_rate: float | None = None
    """Messages a second that one client may send in the long run.  Above it, see
    `message_rate_policy`.  None for no limit."""
    message_burst: int = 20
    """Messages that one client may send at once, if it was silent before."""
    message_rate_policy: Literal["wait", "close"] = "wait"
    """What happens above `message_rate`: ``"wait"`` delays the next 204, and does not read the
    WebSocket; ``"close"`` closes the session with ``c[1008,"Too many messages"]``."""
    receive_timeout: float = 30
    """Seconds within which the body of a request must arrive.  Above it: 408."""
    max_sessions: int | None = None
    """Sessions that may exist at a time.  Above it: 503.  None for no limit."""
    max_sessions_per_ip: int | None = None
    """Sessions that one address, or one IPv6 network of 64 bits, may have at a time.  Above it:
    429.  None for no limit."""
    on_gap: Literal["close"] | None = None
    """What to do when messages of a session's channel may have been missed: ``"close"`` closes it
    with ``c[1012,"Messages missed"]``, so that its client loads all again; None calls `on_gap`."""
    presence_linger: float = 5
    """Seconds within which a member that left may come back before `on_presence` is told."""
    max_session_age: float | None = None
    """Seconds after which a session is closed with ``c[1012,"Session too old"]``, so that clients
    spread over new servers.  Each session ends up to a fifth earlier.  None for no limit."""
    websocket_compression: bool = False
    """Whether to accept permessage-deflate, which costs memory and time for each connection."""
    protocols: Collection[str] = ()
    """WebSocket subprotocols that you support, such as ``v12.stomp``.  The server selects the
    client's first choice among them (`info.protocol`); if it offers only others, it gets 400."""
    base_url: str | None = None
    """The whole URL to which ``/info`` sends clients instead."""
    direct_requests: bool | None = None
    """Whether polls, streams and sends of open sessions are answered without aiohttp's request
    machinery, for less than half of the CPU time.  Middlewares, `on_response_prepare` and the
    access log then see only the request that opens a session and a few others.  None: only where
    there are none of these.  Services with `verify`, `verify_ip`, `jsessionid` or Nodes never
    do.  Unless this is False, WebSocket handshakes bypass aiohttp too if nothing of the application
    looks at requests, `authorize` included."""
    authorize_timeout: float = 10
    """Seconds that `authorize` may take.  Above it: 503."""
    shutdown_timeout: float = 10
    """Seconds that hooks and slow clients get when the application shuts down or drains."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            allowed, is_allowed = _RULES[field.name]
            value = getattr(self, field.name)
            if not is_allowed(value):
                raise SettingsError(
                    f"{field.name}={value!r} is not valid: it must be {allowed}"
                    + _wrong_entries(field.name, value)
                )
        if self.allow_jsonp_and_frames and callable(self.origins):
            raise SettingsError(
                "allow_jsonp_and_frames does not work with a function as origins: the iframe page "
                "must name the origins that may embed it, so list them (patterns are allowed)"
            )
        if not any(self.is_enabled(transport) for transport in switches()):
            raise SettingsError(
                "no transport is left: remove one from disabled_transports (jsonp and htmlfile "
                "are also disabled unless origins is '*', see allow_jsonp_and_frames)"
            )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Settings":
        """Make settings from a mapping of names to values.

        Raises:
            SettingsError: If `mapping` is not a mapping, or as the constructor.
        """
        if not isinstance(mapping, Mapping):
            raise SettingsError(f"settings must be a Settings or a mapping, not {mapping!r}")
        return cls(**{str(name): value for name, value in mapping.items()})

    @property
    def tick_interval(self) -> float:
        """Seconds between two ticks of the clock."""
        return min(self.session_check_interval, self.heartbeat_delay, self.disconnect_delay)

    def is_enabled(self, transport: str) -> bool:
        """Tell whether `transport`, a name as in `disabled_transports` or "iframe", is served."""
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


def _is_base_url(value: Any) -> bool:
    if not isinstance(value, str) or _BASE_URL.fullmatch(value) is None:
        return False
    if _BARE_PERCENT.search(value):
        return False
    try:
        return urlsplit(value).port != 0
    except ValueError:  # a port that no server can have
        return False


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_script_url(value: Any) -> bool:
    if not isinstance(value, str) or _BARE_PERCENT.search(value):
        return False
    return bool(value) and not set(value) & set("\"'<> \t\r\n")


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
    """Return text that names the entries of a list that are not allowed."""
    is_allowed = {
        "origins": is_entry,
        "disabled_transports": _is_transport,
        "protocols": _is_protocol,
    }.get(name)
    if is_allowed is None or not _is_collection(value):
        return ""
    wrong = [repr(entry) for entry in value if not is_allowed(entry)]
    return f"; not allowed: {', '.join(wrong)}"


_DELAY: Rule = ("a number of seconds above 0", lambda value: _is_number(value) and value > 0)
_PAUSE: Rule = ("a number of seconds, 0 or above", lambda value: _is_number(value) and value >= 0)
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
        f"a list of names from {', '.join(switches())} (as in URLs: for sockjs-client's "
        "xhr-polling write xhr, for its jsonp-polling write jsonp)",
        _are_transports,
    ),
    "sockjs_url": (
        "the URL of a script, without quotes, spaces, <, > or a % that is not an escape",
        _is_script_url,
    ),
    "response_limit": _SIZE,
    "jsessionid": (
        'True, False, attributes like "SameSite=None; Secure" (from Secure, HttpOnly, Partitioned, '
        "SameSite=, Path=, Domain=; each once; SameSite=None and Partitioned need Secure), or a "
        "callable that takes the request and the response",
        lambda value: _is_boolean(value) or callable(value) or _are_cookie_attributes(value),
    ),
    "origins": (
        '"*", or a list of origins as browsers write them, like "https://example.com" (lower case, '
        "no path, no slash at the end, no port 80 or 443) and patterns for subdomains, like "
        '"https://*.example.com", or a plain function that takes an origin',
        _are_origins,
    ),
    "allow_jsonp_and_frames": _FLAG,
    "verify_ip": _FLAG,
    "max_message_size": _SIZE,
    "max_messages": ("a whole number above 0", _is_size),
    "send_queue_limit": _SIZE,
    "receive_queue_limit": _SIZE,
    "message_rate": (
        "a number above 0, or None for no limit",
        lambda value: value is None or (_is_number(value) and value > 0),
    ),
    "message_burst": ("a whole number above 0", _is_size),
    "message_rate_policy": ('"wait" or "close"', lambda value: value in ("wait", "close")),
    "receive_timeout": _DELAY,
    "max_sessions": _LIMIT,
    "max_sessions_per_ip": _LIMIT,
    "on_gap": ('"close" or None', lambda value: value in ("close", None)),
    "max_session_age": (
        "a number of seconds above 0, or None for no limit",
        lambda value: value is None or _DELAY[1](value),
    ),
    "websocket_compression": _FLAG,
    "protocols": ('a list of WebSocket subprotocols, like "v12.stomp"', _are_protocols),
    "base_url": (
        "a whole URL such as https://example.com/chat, without #, a user name or a % that is not "
        "an escape, or None",
        lambda value: value is None or _is_base_url(value),
    ),
    "direct_requests": ("True, False or None", lambda value: value is None or _is_boolean(value)),
    "authorize_timeout": _DELAY,
    "presence_linger": _PAUSE,
    "shutdown_timeout": _PAUSE,
}
