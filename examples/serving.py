"""What the examples share: command-line options for host and port, and one-line errors."""

import argparse
import errno
from typing import Any

from aiohttp import web

from sockjs_aio import run_app


def port_number(text: str) -> int:
    """Parse a port number; for use as the `type` of an argument."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is not a port number: use 1 to 65535")
    return int(text)


def make_parser(program: str | None, description: str, port: int = 8080) -> argparse.ArgumentParser:
    """Make a parser with the options ``--host`` and ``--port``."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port_number, default=port)
    return parser


def serve(app: web.Application, options: argparse.Namespace, **more: Any) -> None:
    """Run `app` on the host and port in `options`, which come from a parser of `make_parser`."""
    host, port = options.host, options.port
    try:
        run_app(app, host=host, port=port, access_log=None, **more)
    except OSError as error:
        raise SystemExit(explain(error, host, port)) from None


def explain(error: OSError, host: str, port: int) -> str:
    """Return a message that says why the server cannot listen on `port` of `host`."""
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken: choose another one, such as --port {port + 1}"
    return f"Cannot listen on port {port} of {host}: {error.strerror}"
