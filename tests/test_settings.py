import dataclasses
import inspect

import pytest

from sockjs_aio import Settings, SettingsError, SockJSConnection, SockJSRouter

DEFAULTS = {
    "session_check_interval": 1,
    "disconnect_delay": 5,
    "heartbeat_delay": 25,
    "disabled_transports": (),
    "response_limit": 131072,
    "jsessionid": False,
    "origins": "*",
    "allow_jsonp_and_frames": False,
    "verify_ip": False,
    "max_message_size": 1024 * 1024,
    "send_queue_limit": 4 * 1024 * 1024,
    "receive_queue_limit": 1024 * 1024,
    "message_rate": None,
    "message_burst": 20,
    "message_rate_policy": "wait",
    "receive_timeout": 30,
    "max_sessions": None,
    "max_sessions_per_ip": None,
    "max_session_age": None,
    "websocket_compression": False,
    "protocols": (),
    "base_url": None,
    "shutdown_timeout": 10,
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_defaults(name: str, value: object) -> None:
    assert getattr(Settings(), name) == value


def test_default_script_has_an_exact_version() -> None:
    assert "@1.6.1/" in Settings().sockjs_url


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().response_limit = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "nearest"), [("disconect_delay", "disconnect_delay"), ("hearbeat", "heartbeat_delay")]
)
def test_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*did you mean '{nearest}'"):
        Settings.from_mapping({name: 1})
    with pytest.raises(SettingsError, match=f"{name}.*did you mean '{nearest}'"):
        Settings(**{name: 1})  # type: ignore[arg-type]


def test_constructor_has_its_signature() -> None:
    parameters = inspect.signature(Settings).parameters
    assert [(name, each.default) for name, each in parameters.items()] == [
        (field.name, field.default) for field in dataclasses.fields(Settings)
    ]


def test_name_like_no_other_is_answered_with_all() -> None:
    with pytest.raises(SettingsError, match="the settings are allow_jsonp_and_frames, auth"):
        Settings.from_mapping({"qqqq": 1})
    with pytest.raises(SettingsError, match="there is no setting '5'"):
        Settings.from_mapping({5: 1})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("disconnect_delay", 0),
        ("disconnect_delay", -1),
        ("disconnect_delay", "5"),
        ("disconnect_delay", True),
        ("heartbeat_delay", float("nan")),
        ("heartbeat_delay", float("inf")),
        ("session_check_interval", None),
        ("disabled_transports", "websocket"),
        ("disabled_transports", ["sockets"]),
        ("protocols", "v12.stomp"),
        ("protocols", ["v12.stomp", "a b"]),
        ("protocols", ["a,b"]),
        ("protocols", [""]),
        ("protocols", [b"mqtt"]),
        ("protocols", None),
        ("sockjs_url", ""),
        ("sockjs_url", 'x"><script>'),
        ("response_limit", 0),
        ("response_limit", 1.5),
        ("jsessionid", "yes"),
        ("jsessionid", ""),
        ("jsessionid", "secure"),
        ("jsessionid", "Secure;HttpOnly"),
        ("jsessionid", "Secure; Secure"),
        ("jsessionid", "SameSite=Lax; SameSite=Strict"),
        ("jsessionid", "SameSite=None"),  # browsers drop it without Secure
        ("jsessionid", "Partitioned"),
        ("jsessionid", "Path=echo"),
        ("jsessionid", "Path=/a\r\nX: y"),
        ("jsessionid", "Path=/; Domain=evil example"),
        ("jsessionid", "Secure\n"),
        ("origins", "https://example.com"),
        ("origins", ["https://example.com/"]),
        ("origins", ["example.com"]),
        ("origins", [1]),
        ("origins", ["*"]),
        ("origins", ["https://*"]),
        ("origins", ["https://Example.com"]),
        ("origins", ["https://b\u00fccher.example"]),
        ("origins", ["https://user@example.com"]),
        ("origins", ["https://example.com:443"]),
        ("origins", ["http://[::1]:80"]),
        ("origins", ["https://example.com?"]),
        ("origins", ["https://example.com "]),
        ("origins", ["https://example.com; script-src *"]),
        ("verify_ip", 1),
        ("max_message_size", True),
        ("send_queue_limit", -1),
        ("receive_queue_limit", "1"),
        ("max_messages", 0),
        ("message_rate", 0),
        ("message_rate", float("inf")),
        ("message_rate", "10"),
        ("message_burst", 0),
        ("message_burst", 1.5),
        ("message_burst", None),
        ("message_rate_policy", "drop"),
        ("message_rate_policy", ["wait"]),
        ("max_sessions", 0),
        ("max_session_age", 0),
        ("max_session_age", "3600"),
        ("websocket_compression", None),
        ("base_url", ""),
        ("base_url", "foo"),
        ("base_url", "/chat"),
        ("base_url", "//example.com/chat"),
        ("base_url", "https:///chat"),
        ("base_url", "https://:8080/chat"),
        ("base_url", "https://:"),
        ("base_url", "https://example.com:99999/chat"),
        ("base_url", "https://example.com:port/chat"),
        ("base_url", "https:/example.com/chat"),
        ("base_url", "HTTPS://example.com/chat"),
        ("base_url", "wss://example.com/chat"),
        ("base_url", "https://example.com/chat#x"),
        ("base_url", "https://example.com/50%"),
        ("base_url", "https://example.com/chat%zz"),
        ("base_url", "https://example.com/chat?a=%"),
        ("base_url", "https://example%/chat"),
        ("sockjs_url", "/sockjs%.js"),
        ("base_url", "https://ann:secret@example.com/chat"),
        ("base_url", "https://example.com/my chat"),
        ("base_url", "https://example.com/chat?a=1?b=2"),
        ("authorize_timeout", 0),
        ("shutdown_timeout", -1),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_mapping({name: value})
    assert str(error.value).startswith(f"{name}={value!r} is not valid: it must be ")


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("origins", ["https://a.example", "https://B.example", "b"], "'https://B.example', 'b'"),
        ("disabled_transports", {"xhr-polling"}, "'xhr-polling'"),
    ],
)
def test_wrong_entries_of_a_list_are_named(name: str, value: object, wrong: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_mapping({name: value})
    assert str(error.value).endswith(f"; not allowed: {wrong}")


def test_one_transport_has_to_be_left() -> None:
    every = ["websocket", "rawwebsocket", "xhr", "xhr_streaming", "eventsource", "htmlfile"]
    assert not Settings(disabled_transports=every).is_enabled("xhr")
    with pytest.raises(SettingsError, match="no transport is left"):
        Settings(disabled_transports=[*every, "jsonp"])


def test_good_values_are_taken() -> None:
    settings = Settings.from_mapping(
        {"origins": ["https://a.example", "null"], "jsessionid": lambda *_: None, "max_sessions": 1}
    )
    assert settings.max_sessions == 1


@pytest.mark.parametrize(
    "attributes",
    [
        "Secure",
        "SameSite=None; Secure",
        "Secure; SameSite=None; Partitioned",
        "SameSite=Lax",
        "Path=/chat; Domain=example.com; HttpOnly; SameSite=Strict",
    ],
)
def test_cookie_attributes_that_browsers_know_are_taken(attributes: str) -> None:
    assert Settings(jsessionid=attributes).jsessionid == attributes


def test_every_origin_that_browsers_write_is_taken() -> None:
    origins = ["http://localhost", "http://localhost:8080", "https://example.com:80"]
    origins += ["http://[::1]", "http://[::80]", "http://[::1]:8080", "http://127.0.0.1:8080"]
    origins += ["https://xn--bcher-kva.example", "chrome-extension://abcdefgh", "null"]
    origins += ["file://", "https://*.example.com", "http://*.localhost:8080"]
    assert Settings(origins=origins).origins == origins


def test_short_delays_shorten_the_tick() -> None:
    assert Settings().tick_interval == 1
    assert Settings(disconnect_delay=0.2).tick_interval == 0.2
    assert Settings(heartbeat_delay=0.1, disconnect_delay=0.2).tick_interval == 0.1


def test_router_takes_settings_or_a_mapping() -> None:
    assert SockJSRouter(SockJSConnection, "/x", Settings(verify_ip=True)).settings.verify_ip
    assert SockJSRouter(SockJSConnection, "/x", {"verify_ip": True}).settings.verify_ip
    assert SockJSRouter(SockJSConnection, "/x").settings == Settings()


@pytest.mark.parametrize("prefix", ["chat", "/a{b}", "/a?b", "/a#b", "/a b"])
def test_prefixes_that_cannot_be_routed_are_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        SockJSRouter(SockJSConnection, prefix)


def test_router_takes_settings_by_name_too() -> None:
    assert SockJSRouter(SockJSConnection, "/a", heartbeat_delay=3).settings.heartbeat_delay == 3
    for given in ({"heartbeat_delay": 1, "verify_ip": True}, Settings(verify_ip=True)):
        router = SockJSRouter(SockJSConnection, "/a", given, heartbeat_delay=3)
        assert (router.settings.heartbeat_delay, router.settings.verify_ip) == (3, True)


def test_misspelt_keywords_of_the_router_are_answered_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'heartbeat_delay'"):
        SockJSRouter(SockJSConnection, "/a", hearbeat_delay=3)
    with pytest.raises(TypeError, match="has no argument 'authorise': did you mean 'authorize'"):
        SockJSRouter(SockJSConnection, "/a", authorise=None)
