"""What an application has of Tornado besides its loop: handlers, templates, signed cookies, tests.

None of it is rewritten.  Handlers may stay on Tornado, in one process or behind one proxy; what
protects them there (xsrf, `authenticated`, `check_origin`) does not move with them.
"""

import ast
from collections.abc import Iterator

from sockjs_aio.migrate.facts import Facts, brief
from sockjs_aio.migrate.findings import Finding, Kind

_HANDLERS = {"RequestHandler", "StaticFileHandler", "ErrorHandler", "RedirectHandler"}
_VERBS = {"get", "post", "put", "delete", "head", "patch", "prepare", "initialize", "write_error"}
_STAY = (
    "leave it on Tornado beside the service, see “One endpoint at a time” in the guide; or a "
    "coroutine function of aiohttp"
)
_WEBSOCKET = (
    "WebsocketHandler of sockjs_aio.tornado.migrate with a router of its own; Tornado's lets in "
    "pages of its own host alone, so give the router origins=[...]"
)
_TEMPLATES = "templates (tornado.template.Loader works by itself)"
_SIGNED = "signed cookies (tornado.web.decode_signed_value works by itself)"
_LOGIN = "authenticated (without a check of its own the new handler is open to everybody)"
_XSRF = "xsrf (without a check of its own the new handler takes forged requests)"
_EXECUTOR = "an executor (run_on_executor goes on working, or loop.run_in_executor)"

# What handlers use, by the name of the attribute.
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

_INSTALLED = "as it is, while Tornado is installed"
# What may be used anywhere, by its full name.
_NAMES = {
    "tornado.web.decode_signed_value": (
        f"{_INSTALLED}; in hooks the value is info.get_cookie(NAME).value",
        Kind.SUPPORTED,
    ),
    "tornado.web.create_signed_value": (_INSTALLED, Kind.SUPPORTED),
    "tornado.template": (_INSTALLED, Kind.SUPPORTED),
    "tornado.concurrent.run_on_executor": (_INSTALLED, Kind.SUPPORTED),
    "tornado.wsgi": (
        "leave it to a server for WSGI, such as gunicorn; the proxy sends the service's paths here",
        Kind.BY_HAND,
    ),
    "tornado.testing.gen_test": ("an async def test, with pytest-aiohttp", Kind.BY_HAND),
}
_TEST = "a test with pytest-aiohttp or aiohttp.test_utils; the service is served by real sockets"
_DJANGO = (
    "hooks run on the event loop, where Django's ORM raises SynchronousOnlyOperation: await "
    "asgiref's sync_to_async(...) in async hooks"
)
_NO_XSRF = (
    "aiohttp checks no xsrf cookies: decide for each handler that takes forms whether it stays on "
    "Tornado, or which check it gets"
)


class Handlers:
    """Finds what is Tornado's own in a file."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._classes = [node for node in facts.nodes if isinstance(node, ast.ClassDef)]
        self._own: set[str] = set()  # names of classes of this file that are handlers
        self._is_tornados = any(
            origin.split(".")[0] == "tornado"
            for names in facts.origins.values()
            for origin in names
        )

    def findings(self) -> Iterator[Finding]:
        """List it: a line for each class, and for what stands outside of handlers."""
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
            if node not in in_handlers:
                yield from self._of_name(node)
        if self._facts.is_user:
            yield from self._django()

    def _of_class(self, node: ast.ClassDef) -> str | None:
        names = [self._facts.full_name(base) for base in node.bases]
        if any(name.startswith("tornado.testing.") for name in names):
            return _TEST
        if "tornado.websocket.WebSocketHandler" in names:
            return _WEBSOCKET
        methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
        bases = [ast.unparse(base) for base in node.bases]
        is_handler = any(
            name.removeprefix("tornado.web.") in _HANDLERS and name.startswith("tornado.web.")
            for name in names
        ) or any(
            base in self._own
            or (base.endswith("Handler") and self._is_tornados and methods & _VERBS)
            for base in bases
        )
        if not is_handler:
            return None
        self._own.add(node.name)
        used = [_USES.get(_name(child), "") for child in ast.walk(node)]
        uses = "; ".join(dict.fromkeys(filter(None, used)))
        return f"{_STAY}; uses {uses}" if uses else _STAY

    def _of_name(self, node: ast.AST) -> Iterator[Finding]:
        used: list[ast.expr] = [node.func] if isinstance(node, ast.Call) else []
        used += getattr(node, "decorator_list", ())
        for expression in used:
            full = self._facts.full_name(expression)
            for name, (advice, kind) in _NAMES.items():
                if full == name or full.startswith(f"{name}."):
                    found = brief(node) if isinstance(node, ast.Call) else f"@{brief(expression)}"
                    yield Finding(expression.lineno, found, advice, kind)

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


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
