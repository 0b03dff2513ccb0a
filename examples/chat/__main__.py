"""Run the chat: ``python -m examples.chat [--host HOST] [--port PORT] [--sockjs-client PATH]``."""

import argparse
import errno
from pathlib import Path

from aiohttp import web

from examples.chat import SOCKJS_CLIENT, make_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description="The chat page.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument(
        "--sockjs-client",
        type=Path,
        metavar="PATH",
        help="sockjs.min.js of sockjs-client 1.6.1; without it pages load it from its CDN",
    )
    arguments = parser.parse_args()
    if arguments.sockjs_client and not arguments.sockjs_client.is_file():
        parser.error(f"there is no file {arguments.sockjs_client}")
    try:
        web.run_app(
            make_app(arguments.sockjs_client or SOCKJS_CLIENT),
            host=arguments.host,
            port=arguments.port,
            handler_cancellation=True,
            access_log=None,
        )
    except OSError as error:
        raise SystemExit(_explain(error, arguments.host, arguments.port)) from None


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is taken: choose another one, such as --port {port + 1}"
    return f"Cannot serve on port {port} of {host}: {error.strerror}"


if __name__ == "__main__":
    main()
