"""Run the page: ``python -m examples.multiplex [--host HOST] [--port PORT]``."""

import argparse

from aiohttp import web

from examples.multiplex import make_app


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.multiplex", description="Three channels over one socket."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    try:
        web.run_app(
            make_app(),
            host=arguments.host,
            port=arguments.port,
            handler_cancellation=True,
            access_log=None,
        )
    except OSError as error:
        raise SystemExit(f"Cannot serve on port {arguments.port}: {error.strerror}") from None


if __name__ == "__main__":
    main()
