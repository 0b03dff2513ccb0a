"""Finds what else an application uses of Tornado: handlers, templates, signed cookies, tests.

None of it is rewritten.  Handlers may stay on Tornado, in the same process or behind the same
proxy.  What protects them there (xsrf, `authenticated`, `check_origin`) does not move with them.
"""

import ast
from collections.abc import Iterator

from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind

_HANDLERS = {"RequestHandler", "StaticFileHandler", "ErrorHandler", "RedirectHandler"}
_VERBS = {"get", "post", "put", "delete", "head", "patch", "prepare", "initialize", "write_error"}
_STAY = (
    "leave it on Tornado beside the service (see “One endpoint at a time” in "
    "docs/migrating-from-sockjs-tornado.md), or rewrite it as a coroutine function for aiohttp"
)
_SESSION_HANDLER = "this is not a Tornado handler: use session.conn_info, or info of on_open"
_ROUTER_LOOP = "router.io_loop is not the loop that runs: call IOLoop.current() in the hook"
_UI_MODULE = "it goes with the handlers whose templates use it"
_WEBSOCKET = (
    "derive from WebsocketHandler of sockjs_aio.tornado.migrate, with a router of its own; Tornado "
    'allows only pages of its own host, so give the router {"origins": [...]}'
)
_TEMPLATES = "templates (tornado.template.Loader works without a handler)"
_SIGNED = "signed cookies (tornado.web.decode_signed_value works without a handler)"
_LOGIN = "authenticated (give the new handler a check, or it is open to everybody)"
_XSRF = "xsrf (give the new handler a check, or it accepts forged requests)"
_EXECUTOR = "an executor (keep run_on_executor, or use loop.run_in_executor)"

# Features of Tornado, by the attribute through which handlers use them.
_USES = {
    "render": _TEMPLATES,
    "render_string": _TEMPLATES,
    "authenticated": _LOGIN,
    "current_user": _LOGIN,
    "run_on_executor": _EXECUTOR,
}
_USES |= dict.fromkeys(("xsrf_form_html", "xsrf_token", "check_xsrf_cookie"), _XSRF)
_USES |= dict.fromkeys(
    ("get_secure_cookie", "set_secure_cookie", "get_signed_cookie", "set_signed_cookie"), _SIGNED
)

_INSTALLED = "no change needed while Tornado is installed"
# Advice on what is also used outside of handlers, by its full name.
_NAMES = {
    "tornado.web.decode_signed_value": (
        f"{_INSTALLED}; in hooks, get the cookie's value from info.get_cookie(NAME).value",
        Kind.SUPPORTED,
    ),
    "tornado.web.create_signed_value": (_INSTALLED, Kind.SUPPORTED),
    "tornado.template": (_INSTALLED, Kind.SUPPORTED),
    "tornado.concurrent.run_on_executor": (_INSTALLED, Kind.SUPPORTED),
    "tornado.wsgi": (
        "run the WSGI application on a WSGI server such as gunicorn, and have the proxy send the "
        "SockJS service's paths here",
        Kind.BY_HAND,
    ),
    "tornado.testing.gen_test": (
        "rewrite it as an async def test, with pytest-aiohttp",
        Kind.BY_HAND,
    ),
}
# Handlers of Tornado's own that are used as they are, in lists of routes.
_READY_MADE = {
    "tornado.web.StaticFileHandler": "app.router.add_static(PREFIX, PATH)",
    "tornado.web.RedirectHandler": "a coroutine function that raises web.HTTPFound(URL)",
    "tornado.web.FallbackHandler": (
        "aiohttp runs no WSGI application: run it on a server such as gunicorn, and have the proxy "
        "send the SockJS service's paths here"
    ),
    "tornado.web.ErrorHandler": "a coroutine function that raises web.HTTPNotFound() or the like",
}
_TEST = (
    "rewrite it as a test with pytest-aiohttp or aiohttp.test_utils, which serve the application "
    "on a real socket"
)
_DJANGO = (
    "hooks run on the event loop, where Django's ORM raises SynchronousOnlyOperation: make hooks "
    "that use it async, and await asgiref's sync_to_async(...)"
)
_NO_XSRF = (
    "aiohttp does not check xsrf cookies: leave each handler that accepts forms on Tornado, or "
    "give it a check of its own"
)


class Handlers:
    """Finds uses of Tornado's own features in a file."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._classes = [node for node in facts.nodes if isinstance(node, ast.ClassDef)]
        self._routers = facts.assigned(
            lambda value: (
                isinstance(value, ast.Call)
                and facts.full_name(value.func).endswith("tornado.SockJSRouter")
            )
        )
        self._routed = {name for each in facts.nodes if (name := _routed(each))}
        self._own: set[str] = set()  # names of the handler classes in this file
        self._is_tornados = any(
            origin.split(".")[0] == "tornado"
            for names in facts.origins.values()
            for origin in names
        )

    def findings(self) -> Iterator[Finding]:
        """List each handler class, with all that it uses, and each use outside of handlers."""
        in_handlers: set[ast.AST] = set()
        for cls in self._classes:
            if advice := self._of_class(cls):
                in_handlers |= set(ast.walk(cls))
                bases = ", ".join(ast.unparse(base) for base in cls.bases)
                yield Finding(cls.lineno, f"class {cls.name}({bases})", advice, Kind.BY_HAND)
        for node in self._facts.nodes:
            if self._switches_xsrf_on(node):
                line = getattr(node, "lineno", 1)
                yield Finding(line, "xsrf_cookies", _NO_XSRF, Kind.UNDECIDABLE)
            if self._facts.is_user:
                yield from self._of_session(node)
            if node not in in_handlers:
                yield from self._of_name(node)
                yield from self._of_route(node)
        if self._facts.is_user:
            yield from self._django()

    def _of_class(self, node: ast.ClassDef) -> str | None:
        names = [self._facts.full_name(base) for base in node.bases]
        if any(name.startswith("tornado.testing.") for name in names):
            return _TEST
        if "tornado.websocket.WebSocketHandler" in names:
            return _WEBSOCKET
        if "tornado.web.UIModule" in names:
            return _UI_MODULE
        methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
        bases = [ast.unparse(base) for base in node.bases]
        is_routed = node.name in self._routed
        is_handler = any(
            name.removeprefix("tornado.web.") in _HANDLERS and name.startswith("tornado.web.")
            for name in names
        ) or any(
            base in self._own
            or (base.endswith("Handler") and self._is_tornados and (methods & _VERBS or is_routed))
            for base in bases
        )
        if not is_handler:
            return None
        self._own.add(node.name)
        used = [_USES.get(_name(child), "") for child in ast.walk(node)]
        uses = "; ".join(dict.fromkeys(filter(None, used)))
        return f"{_STAY}; it uses {uses}" if uses else _STAY

    def _of_name(self, node: ast.AST) -> Iterator[Finding]:
        used: list[ast.expr] = [node.func] if isinstance(node, ast.Call) else []
        used += getattr(node, "decorator_list", ())
        for expression in used:
            full = self._facts.full_name(expression)
            for name, (advice, kind) in _NAMES.items():
                if full == name or full.startswith(f"{name}."):
                    found = brief(node) if isinstance(node, ast.Call) else f"@{brief(expression)}"
                    yield Finding(expression.lineno, found, advice, kind)

    def _of_route(self, node: ast.AST) -> Iterator[Finding]:
        if isinstance(node, ast.Name | ast.Attribute):
            parent = self._facts.parents.get(node)
            advice = _READY_MADE.get(self._facts.full_name(node))
            if advice and not isinstance(parent, ast.ClassDef):
                yield Finding(node.lineno, brief(node), advice, Kind.BY_HAND)

    def _of_session(self, node: ast.AST) -> Iterator[Finding]:
        """List what sessions and routers of sockjs-tornado had of Tornado's."""
        if not isinstance(node, ast.Attribute):
            return
        text = ast.unparse(node.value)
        if text.endswith("session.handler"):
            yield Finding(node.lineno, brief(node), _SESSION_HANDLER, Kind.BY_HAND)
        is_router = text.endswith((".server", "router")) or text in self._routers
        if node.attr == "io_loop" and is_router:
            yield Finding(node.lineno, brief(node), _ROUTER_LOOP, Kind.BY_HAND)

    def _switches_xsrf_on(self, node: ast.AST) -> bool:
        if isinstance(node, ast.keyword):
            pairs = [(node.arg, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [
                (getattr(key, "value", None), value)
                for key, value in zip(node.keys, node.values, strict=True)
            ]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pairs = [(getattr(node.targets[0].slice, "value", None), node.value)]
        else:
            return False
        return any(
            name == "xsrf_cookies" and not (isinstance(value, ast.Constant) and not value.value)
            for name, value in pairs
        )

    def _django(self) -> Iterator[Finding]:
        for node in self._facts.nodes:
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            if isinstance(node, ast.Import | ast.ImportFrom) and any(
                module.split(".")[0] == "django" for module in modules
            ):
                yield Finding(node.lineno, brief(node), _DJANGO, Kind.BY_HAND)
                return


def _routed(node: ast.AST) -> str:
    """Return the name of the handler if `node` is a route: ``(PATTERN, HANDLER, ...)``."""
    parts = node.elts if isinstance(node, ast.Tuple) else getattr(node, "args", [])
    is_route = isinstance(parts, list) and len(parts) > 1 and isinstance(parts[0], ast.Constant)
    return parts[1].id if is_route and isinstance(parts[1], ast.Name) else ""


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
