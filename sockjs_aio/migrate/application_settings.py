"""Finds settings of a Tornado application, and says what becomes of each."""

import ast
from collections.abc import Iterator, Sequence

from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind
from sockjs_aio.migrate.listening import is_constant

_WITH_HANDLERS = "goes with the handlers that use it"
_COMPRESSION = "call response.enable_compression() where you need it"
_RELOAD = "nothing reloads code here"
_ERRORS = "write a middleware that makes such responses"
_PING = "set heartbeat_delay of the router for its sessions"
_STATIC = 'app.router.add_static("/static", PATH)'

_ADVICE = {
    "autoescape": _WITH_HANDLERS,
    "autoreload": _RELOAD,
    "compiled_template_cache": _WITH_HANDLERS,
    "compress_response": _COMPRESSION,
    "cookie_secret": _WITH_HANDLERS,
    "debug": _RELOAD,
    "default_handler_args": _ERRORS,
    "default_handler_class": _ERRORS,
    "gzip": _COMPRESSION,
    "log_function": "pass access_log_class to run_app",
    "login_url": _WITH_HANDLERS,
    "serve_traceback": _RELOAD,
    "static_handler_class": _WITH_HANDLERS,
    "static_path": _STATIC,
    "static_url_prefix": "give this prefix to add_static",
    "template_loader": _WITH_HANDLERS,
    "template_path": _WITH_HANDLERS,
    "ui_methods": _WITH_HANDLERS,
    "ui_modules": _WITH_HANDLERS,
    "websocket_max_message_size": "set max_message_size of the router",
    "websocket_ping_interval": _PING,
    "websocket_ping_timeout": _PING,
}
# Names that other dictionaries have too.
_COMMON = {"autoreload", "debug", "gzip"}


def notes(pairs: Sequence[tuple[object, ast.expr]]) -> list[str]:
    """Say what becomes of the settings among `pairs` that are on."""
    return [
        f"{name}: {_ADVICE[name]}"
        for name, value in pairs
        if isinstance(name, str) and name in _ADVICE and not is_constant(value, None, False)
    ]


def others(pairs: Sequence[tuple[object, ast.expr]]) -> list[str]:
    """Return the names among `pairs` that `notes` has no word for, such as an application's own."""
    told = {"handlers", "xsrf_cookies", *_ADVICE}
    return [
        name
        for name, value in pairs
        if isinstance(name, str) and name not in told and not is_constant(value, None, False)
    ]


def given(call: ast.Call) -> list[tuple[object, ast.expr]]:
    """Return the keyword arguments of a call as pairs."""
    return [(keyword.arg, keyword.value) for keyword in call.keywords]


def application_settings(facts: Facts) -> Iterator[Finding]:
    """List dictionaries of settings, and settings that are set one by one."""
    if not facts.is_user and not facts.uses("tornado"):
        return
    for node in facts.nodes:
        pairs = _pairs(node)
        if pairs and (told := notes(pairs)):
            line = getattr(node, "lineno", 1)
            yield Finding(line, brief(node), "; ".join(told), Kind.BY_HAND)


def _pairs(node: ast.AST) -> list[tuple[object, ast.expr]]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        target = node.targets[0]
        is_settings = ast.unparse(target.value).endswith("settings")
        return [(getattr(target.slice, "value", None), node.value)] if is_settings else []
    if isinstance(node, ast.Dict):
        keys = [getattr(key, "value", None) for key in node.keys]
        pairs = list(zip(keys, node.values, strict=True))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        pairs = given(node)
    else:
        return []
    names = {name for name, _ in pairs if isinstance(name, str)}
    return pairs if names & (_ADVICE.keys() | {"xsrf_cookies"}) - _COMMON else []
