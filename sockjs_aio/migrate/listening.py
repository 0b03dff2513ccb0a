"""Finds where a Tornado server listens, and writes a call of `run_app` that listens there.

The advice must never expose a service more widely than before.  Options with a counterpart are
carried over; the others are named.  If a line does not show all its options, the advice listens on
127.0.0.1 only.
"""

import ast
from collections.abc import Sequence

_NARROW = "'127.0.0.1'"
_EVERYWHERE = {"AF_INET": "'0.0.0.0'", "AF_INET6": "'::'"}

# What to do about options of HTTPServer and listen().
_OPTIONS = {
    "xheaders": "xheaders: set up XForwardedStrict of aiohttp-remotes; without it X-Real-Ip and "
    "X-Forwarded-For are ignored, and info.ip and verify_ip see the proxy's address",
    "protocol": "protocol: set up XForwardedStrict of aiohttp-remotes; without it the scheme is "
    "that of the connection",
    "trusted_downstream": "trusted_downstream: pass these proxies to XForwardedStrict of "
    "aiohttp-remotes",
    "max_body_size": "max_body_size: set max_message_size of the router, and client_max_size of "
    "web.Application for other handlers",
    "max_buffer_size": "max_buffer_size: set max_message_size of the router, and client_max_size "
    "of web.Application for other handlers",
    "idle_connection_timeout": "idle_connection_timeout: pass keepalive_timeout=... to run_app",
    "body_timeout": "body_timeout: set receive_timeout of the router",
    "decompress_request": "decompress_request: remove it; aiohttp always decompresses, within the "
    "size limits",
}
_HANDED_ON = {"backlog", "reuse_port"}  # run_app takes these under the same names


class Listening:
    """What a call says about where to listen: ``app.listen(8080, "127.0.0.1", xheaders=True)``.

    Args:
        call: A call of `listen`, `bind` or `HTTPServer`.
        names: The names of its positional arguments.
        makers: Calls of `HTTPServer` whose options also apply to `call`.
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
        """Whether the call says where to listen."""
        return bool(self.given.keys() & {"port", "sockets"} or self.unknown)

    def start(self) -> str:
        """Return the call of `run_app` that listens in the same place, and not more widely."""
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
        """Return what to do about options that the call of `run_app` does not carry over."""
        notes = []
        if self.unknown:
            unknown = ", ".join(self.unknown)
            notes.append(f"{unknown}: if it contains an address or TLS options, carry them over")
        if self._has_tls():
            notes.append(
                "ssl_options: write a function ssl_context_of that makes an ssl.SSLContext from "
                "them, including cert_reqs and ca_certs"
            )
        own = {"port", "address", "family", "ssl_options", "request_callback", "io_loop", "sockets"}
        for name, value in self.given.items():
            if name not in own | _HANDED_ON and not is_constant(value, None, False):
                notes.append(_OPTIONS.get(name, f"{name}: remove it; run_app has no such option"))
        return notes

    def advice(self, where: str) -> str:
        """Return all advice on one line; `where` says where to put the call of `run_app`."""
        is_told = "sockets" in self.given or self._host()
        scope = "" if is_told else ", which listens on all addresses as before"
        return "; ".join([f"{self.start()}{scope}", where, *self.notes()])

    def _host(self) -> str | None:
        """Return a host that listens no more widely than before; None means all addresses."""
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
    """Tell whether `node` is a literal of one of `values`."""
    return isinstance(node, ast.Constant) and any(
        node.value is v or node.value == v for v in values
    )


def processes(count: ast.expr | None) -> str | None:
    """Say how to run `count` processes; None if there is only one."""
    if count is None or is_constant(count, 1):
        return None
    number = "N" if is_constant(count, None, 0) else ast.unparse(count)
    return (
        "to run several processes, use python -m sockjs_aio serve MODULE:FACTORY "
        f"--workers {number} --host ... --port ... (see docs/workers.md); it passes each request "
        "to the process that has its session"
    )
