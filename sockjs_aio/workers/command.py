"""The command ``python -m sockjs_aio serve``."""

import argparse
import logging
import os
from collections.abc import Sequence

from sockjs_aio.running import Drain
from sockjs_aio.workers.target import TargetError
from sockjs_aio.workers.workers import Workers


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sockjs_aio")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve an application with several processes",
        description="Serve an aiohttp application with several processes on one port.  A request "
        "finds the process that has its session, whichever it comes in at.  SIGTERM drains, SIGHUP "
        "reloads the code, one process at a time.",
    )
    commands.add_parser("migrate", help="say what code for sockjs-tornado has to change")
    serve.add_argument("target", help="package.module:name of an application or its factory")
    serve.add_argument("--workers", type=int, default=1, metavar="N", help="default: 1")
    serve.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    serve.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    _add_seconds(serve, "notice", Drain.notice, "for load balancers to notice the end")
    _add_seconds(serve, "over", Drain.over, "over which sessions are closed")
    _add_seconds(serve, "limit", Drain.limit, "after which a process ends, whoever is left")
    serve.add_argument(
        "--hang-limit",
        type=float,
        default=Workers.hang_limit,
        metavar="SECONDS",
        help="for which a hook may hold up a process before that is killed; default: %(default)g",
    )
    serve.add_argument(
        "--lingering-time",
        type=float,
        default=Workers.lingering_time,
        metavar="SECONDS",
        help="as aiohttp's, which nobody needs; default: %(default)g",
    )
    serve.add_argument(
        "--keepalive-timeout",
        type=float,
        default=Workers.keepalive_timeout,
        metavar="SECONDS",
        help="after which idle connections are closed; default: %(default)g",
    )
    serve.add_argument("--access-log", action="store_true", help="log each request")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format=f"[{os.getpid()}] %(levelname)s %(message)s")
    try:
        workers = Workers(
            options.workers,
            notice=options.drain_notice,
            over=options.drain_over,
            limit=options.drain_limit,
            access_log=options.access_log,
            hang_limit=options.hang_limit,
            lingering_time=options.lingering_time,
            keepalive_timeout=options.keepalive_timeout,
        )
        workers.run(options.target, host=options.host, port=options.port)
    except (ValueError, TargetError, OSError) as error:
        serve.error(str(error))
    return 0


def _add_seconds(parser: argparse.ArgumentParser, name: str, default: float, what: str) -> None:
    parser.add_argument(
        f"--drain-{name}",
        type=float,
        default=default,
        metavar="SECONDS",
        help=f"{what}; default: %(default)g",
    )
