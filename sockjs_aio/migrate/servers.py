"""Tells which expressions are Tornado servers, and which may be: those that other files make."""

import ast
import re

from sockjs_aio.migrate.facts import Facts

_APPLICATION = "tornado.web.Application"
_HTTP = "tornado.httpserver.HTTPServer"
_TCP = "tornado.tcpserver.TCPServer"


class Servers:
    """The servers and applications of a file, and the names that it gives to them."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._http_classes = facts.classes(_HTTP)
        self._tcp_classes = facts.classes(_TCP)
        self._applications = facts.classes(_APPLICATION)
        self._servers = facts.assigned(self.is_made)
        self._others = {*facts.assigned(self._makes_other)}
        self._is_beside_tornado = facts.is_user or facts.uses("tornado.web", "tornado.httpserver")
        self._functions = {n.name for n in facts.nodes if isinstance(n, ast.FunctionDef)}

    def is_application(self, node: ast.expr) -> bool:
        """Tell whether `node` is Tornado's class, or its constructor."""
        return self._facts.full_name(node) in {_APPLICATION, f"{_APPLICATION}.__init__"}

    def is_super(self, node: ast.expr) -> bool:
        """Tell whether `node` is ``super(...).__init__`` of a class of this file."""
        if not isinstance(node, ast.Attribute) or node.attr != "__init__":
            return False
        is_super = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
        return is_super and self._is_in_application(node)

    def _is_in_application(self, node: ast.AST) -> bool:
        classes = [each for each in self._facts.scopes(node) if isinstance(each, ast.ClassDef)]
        return bool(classes) and classes[0].name in self._applications

    def is_given_self(self, call: ast.Call) -> bool:
        """Tell whether `call` is ``Application.__init__(self, ...)``."""
        return isinstance(call.func, ast.Attribute) and (
            call.func.attr == "__init__" and not self.is_super(call.func)
        )

    def makes_http_server(self, node: ast.Call) -> bool:
        """Tell whether `node` makes an HTTPServer."""
        function = node.func
        is_own = isinstance(function, ast.Name) and function.id in self._http_classes
        return is_own or self._facts.full_name(function) == _HTTP

    def is_made(self, node: ast.expr) -> bool:
        """Tell whether `node` makes a server or an application."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Name) and node.func.id in self._applications:
            return True
        if self.is_application(node.func) or self.makes_http_server(node):
            return True
        return isinstance(node.func, ast.Attribute) and (
            node.func.attr == "listen" and self.is_made(node.func.value)
        )

    def is_server(self, node: ast.expr) -> bool:
        """Tell whether `node` is a server, by what this file says or by its name."""
        text = ast.unparse(node)
        if self.is_made(node) or text in self._servers:
            return True
        if text == "self" and self._is_in_application(node):
            return True
        if text in self._others:
            return False
        return not isinstance(node, ast.Call) and bool(re.search("app|serv", text, re.IGNORECASE))

    def may_listen(self, call: ast.Call, owner: ast.expr) -> bool:
        """Tell whether `owner` may be a server of another file: `call` is like one of its calls."""
        if not self._is_beside_tornado or self._makes_other(owner):
            return False
        if ast.unparse(owner) in self._others or re.search("sock", ast.unparse(owner), re.I):
            return False
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Name | ast.Attribute):  # a callback, as of a Redis client
            name = first.id if isinstance(first, ast.Name) else first.attr
            return name not in self._functions
        is_text = isinstance(first, ast.Constant) and isinstance(first.value, str)
        return not is_text and not isinstance(first, ast.Tuple | ast.Lambda)

    def makers(self, owner: ast.expr) -> list[ast.Call]:
        """Return the calls of HTTPServer that may have made `owner`, or serve it."""
        made = self._servers.get(ast.unparse(owner), [owner] if self.is_made(owner) else None)
        calls = self._facts.nodes if made is None else made
        return [n for n in calls if isinstance(n, ast.Call) and self.makes_http_server(n)]

    def _makes_other(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call):
            return False
        full = self._facts.full_name(node.func)
        return full in (_TCP, "socket.socket") or ast.unparse(node.func) in self._tcp_classes
