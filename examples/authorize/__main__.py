"""Run the page: ``python -m examples.authorize [--host HOST] [--port PORT] [--origin ORIGIN]``."""

import argparse

from aiohttp import web

from examples.authorize import make_app


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.authorize", description="Who may come in, by cookie or by token."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--origin", action="append", help="where the page is seen to come from")
    arguments = parser.parse_args()
    names = {arguments.host, "127.0.0.1", "localhost"}
    origins = arguments.origin or [f"http://{name}:{arguments.port}" for name in sorted(names)]
    try:
        web.run_app(
            make_app(origins),
            host=arguments.host,
            port=arguments.port,
            handler_cancellation=True,
            access_log=None,  # it would have the tokens
        )
    except OSError as error:
        raise SystemExit(f"Cannot serve on port {arguments.port}: {error.strerror}") from None


if __name__ == "__main__":
    main()
