"""Where a Tornado server listens, and how the same is written for `run_app`: never wider.

What has a counterpart is carried over; the rest is named.  Where the options are not known from
the line itself, the advice listens on 127.0.0.1 alone.
"""

import ast
from collections.abc import Sequence

_NARROW = "'127.0.0.1'"
_EVERYWHERE = {"AF_INET": "'0.0.0.0'", "AF_INET6": "'::'"}

# Options of HTTPServer and of listen(): what to say about them.
_OPTIONS = {
    "xheaders": "xheaders: nothing here believes X-Real-Ip or X-Forwarded-For, info.ip and "
    "verify_ip see the proxy's address until XForwardedStrict of aiohttp-remotes is set up",
    "protocol": "protocol: the scheme is that of the connection until XForwardedStrict of "
    "aiohttp-remotes is set up",
    "trusted_downstream": "trusted_downstream: name these proxies to XForwardedStrict of "
    "aiohttp-remotes",
    "max_body_size": "max_body_size: max_message_size of the router, and client_max_size of "
    "web.Application for other handlers",
    "max_buffer_size": "max_buffer_size: max_message_size of the router, and client_max_size of "
    "web.Application for other handlers",
    "idle_connection_timeout": "idle_connection_timeout: keepalive_timeout=... of run_app",
    "body_timeout": "body_timeout: receive_timeout of the router",
    "decompress_request": "decompress_request: aiohttp always unpacks, within the size limits",
}
_HANDED_ON = {"backlog", "reuse_port"}  # run_app has them under these names


class Listening:
    """What calls say about where to listen: ``app.listen(8080, "127.0.0.1", xheaders=True)``.

    Args:
        call: Of `listen`, `bind` or `HTTPServer`.
        names: What its positional arguments are called.
        makers: Calls of `HTTPServer` whose options hold for `call`, too.
    """

    def __init__(
        self, call: ast.Call, names: tuple[str, ...], makers: Sequence[ast.Call] = ()
    ) -> None:
        self.given: dict[str, ast.expr] = {}
        self.unknown: list[str] = []
        for maker in makers:
            self._take(maker, ("request_callback",))
        self._take(call, names)

    def _take(self, call: ast.Call, names: tuple[str, ...]) -> None:
        self.given |= dict(zip(names, call.args, strict=False))
        self.given |= {k.arg: k.value for k in call.keywords if k.arg}
        starred = [a for a in call.args if isinstance(a, ast.Starred)]
        self.unknown += [ast.unparse(a) for a in starred or call.args[len(names) :]]
        self.unknown += [f"**{ast.unparse(k.value)}" for k in call.keywords if not k.arg]

    @property
    def is_somewhere(self) -> bool:
        """Whether it listens somewhere."""
        return bool(self.given.keys() & {"port", "sockets"} or self.unknown)

    def start(self) -> str:
        """Return the call of `run_app` that listens in the same place, and no wider."""
        arguments = ["app"]
        if "sockets" in self.given:
            arguments.append(f"sock={ast.unparse(self.given['sockets'])}")
        else:
            arguments += self._place()
        if self._has_tls():
            options = ast.unparse(self.given["ssl_options"])
            arguments.append(f"ssl_context=ssl_context_of({options})")
        return f"run_app({', '.join(arguments)})"

    def _place(self) -> list[str]:
        host, port = self._host(), self.given.get("port")
        known = port is not None and not isinstance(port, ast.Starred)
        arguments = [f"host={host}"] if host else []
        arguments.append(f"port={ast.unparse(port) if port and known else '...'}")
        handed_on = sorted(_HANDED_ON & self.given.keys())
        return arguments + [f"{name}={ast.unparse(self.given[name])}" for name in handed_on]

    def notes(self) -> list[str]:
        """Return what is lost unless something is done about it."""
        notes = []
        if self.unknown:
            notes.append(f"{', '.join(self.unknown)}: has it an address, TLS? then carry them over")
        if self._has_tls():
            notes.append(
                "ssl_options: write ssl_context_of, which makes an ssl.SSLContext of them, "
                "cert_reqs and ca_certs included"
            )
        own = {"port", "address", "family", "ssl_options", "request_callback", "io_loop", "sockets"}
        for name, value in self.given.items():
            if name not in own | _HANDED_ON and not is_constant(value, None, False):
                notes.append(_OPTIONS.get(name, f"{name}: has no counterpart, and is lost"))
        return notes

    def advice(self, where: str) -> str:
        """Return it all on one line; `where` says where that is to be written."""
        is_told = "sockets" in self.given or self._host()
        scope = "" if is_told else ", on all addresses as before"
        return "; ".join([f"{self.start()}{scope}, {where}", *self.notes()])

    def _host(self) -> str | None:
        """Return what listens no wider than before; None stands for all addresses."""
        if self.unknown:
            return _NARROW
        address, family = self.given.get("address"), self.given.get("family")
        if address is not None and not is_constant(address, None, ""):
            return ast.unparse(address)
        if family is None or ast.unparse(family).endswith("AF_UNSPEC"):
            return None
        return _EVERYWHERE.get(ast.unparse(family).rpartition(".")[2], _NARROW)

    def _has_tls(self) -> bool:
        options = self.given.get("ssl_options")
        return options is not None and not is_constant(options, None)


def is_constant(node: ast.expr, *values: object) -> bool:
    """Tell whether `node` is written as one of `values`."""
    return isinstance(node, ast.Constant) and any(
        node.value is v or node.value == v for v in values
    )


def processes(count: ast.expr | None) -> str | None:
    """Say what becomes of a number of processes, of which 1 needs no words."""
    if count is None or is_constant(count, 1):
        return None
    number = "N" if is_constant(count, None, 0) else ast.unparse(count)
    return (
        f"several processes: python -m sockjs_aio serve MODULE:FACTORY --workers {number} --host "
        "... --port ..., see docs/workers.md; requests then find the process of their session"
    )
