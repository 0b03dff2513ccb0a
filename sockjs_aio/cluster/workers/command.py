"""The command ``python -m sockjs_aio serve``."""

import argparse
import dataclasses
import logging
import os
import sys
from collections.abc import Sequence

from sockjs_aio.cluster.workers import logs
from sockjs_aio.cluster.workers.app_loader import TargetError
from sockjs_aio.cluster.workers.cpus import usable_cpus
from sockjs_aio.cluster.workers.environment import PREFIX, EnvironmentParser
from sockjs_aio.cluster.workers.unix_socket import UNIX_MODE
from sockjs_aio.cluster.workers.workers import LOOPS, Workers
from sockjs_aio.server.drain import Drain
from sockjs_aio.version import __version__

logger: logging.Logger = logging.getLogger("sockjs_aio.workers")

_SECONDS = {
    "drain_notice": (Drain.notice, "seconds for load balancers to notice the shutdown"),
    "drain_over": (Drain.over, "seconds over which sessions are closed"),
    "drain_limit": (Drain.limit, "seconds after which a process ends even if sessions remain"),
    "hang_limit": (
        Workers.hang_limit,
        "seconds after which a process whose event loop is blocked is killed and replaced",
    ),
    "keepalive_timeout": (
        Workers.keepalive_timeout,
        "seconds after which an idle connection is closed",
    ),
    "lingering_time": (
        Workers.lingering_time,
        "seconds for which the server goes on reading a request body that no handler wants",
    ),
}


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m sockjs_aio") -> int:
    """Run the command, which is called `prog`; return its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog=prog)
    _add_version(parser)
    commands = parser.add_subparsers(
        required=True, metavar="COMMAND", parser_class=EnvironmentParser
    )
    serve = commands.add_parser(
        "serve",
        help="serve an application with several processes",
        description="Serve an aiohttp application with several processes on one port.  They pass "
        "requests on to the process that has the session.  "
        "SIGTERM closes all sessions and exits; SIGHUP reloads the code, one process at a time.",
        epilog="You can set each option in the environment too: --workers 4 as "
        f"{PREFIX}WORKERS=4, --access-log as {PREFIX}ACCESS_LOG=1.  Separate several hosts by "
        "commas.",
    )
    commands.add_parser("migrate", help="list what to change in code for sockjs-tornado")
    commands.add_parser("doctor", help="find out what stands between clients and a service")
    commands.add_parser("connect", help="talk to a service: lines in are messages out")
    commands.add_parser("bench", help="measure a service that echoes, with numbered messages")
    _add_options(serve)
    if arguments[:1] == ["serve"]:
        arguments[1:1] = serve.arguments_of(os.environ, arguments)
    options = parser.parse_args(arguments)
    logs.set_up(options.log_level, options.log_format)
    for hint in serve.unknown_in(os.environ):
        logger.warning("%s", hint)
    try:
        _serve(options)
    except (ValueError, TargetError, OSError) as error:
        serve.exit(2, f"{serve.prog}: error: {error}\n")
    return 0


def _serve(options: argparse.Namespace) -> None:
    workers = Workers(
        options.workers,
        drain=drain_of(options),
        access_log=options.access_log,
        hang_limit=options.hang_limit,
        lingering_time=options.lingering_time,
        keepalive_timeout=options.keepalive_timeout,
        metrics_port=options.metrics_port,
        metrics_host=options.metrics_host,
        loop=options.loop,
        log_level=options.log_level,
        log_format=options.log_format,
        reload=options.reload,
    )
    workers.run(
        options.target,
        host=options.host,
        port=options.port,
        unix=options.unix,
        unix_mode=options.unix_mode,
        unix_owner=options.unix_owner,
        fd=options.fd or (),
    )


def drain_of(options: argparse.Namespace) -> Drain:
    """Return the times of a drain, which are short with ``--reload`` unless they are given."""
    default = Drain(notice=0, over=0) if options.reload else Drain()
    given = {name: getattr(options, f"drain_{name}") for name in ("notice", "over", "limit")}
    return dataclasses.replace(default, **{k: v for k, v in given.items() if v is not None})


def _add_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument(
        "target", help="package.module:name of an application or of a function that returns one"
    )
    _add_version(serve)
    serve.add_argument(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="the number of processes, or auto for one for each CPU that this process may use; "
        "default: 1",
    )
    _add_addresses(serve)
    for name, (default, what) in _SECONDS.items():
        serve.add_argument(
            f"--{name.replace('_', '-')}",
            type=float,
            default=None if name.startswith("drain_") else default,
            metavar="SECONDS",
            help=f"{what}; default: {default:g}",
        )
    serve.add_argument("--loop", choices=LOOPS, help="the event loop; default: asyncio's")
    serve.add_argument(
        "--reload",
        action="store_true",
        help="reload the code when one of its files changes, for development; "
        "also makes the defaults of --drain-notice and --drain-over 0",
    )
    _add_what_tells(serve)


def _add_addresses(serve: argparse.ArgumentParser) -> None:
    """Add the options of where it listens."""
    serve.add_argument(
        "--host",
        action="append",
        help="the address or name to listen at; repeat the option for several; "
        "default: 127.0.0.1, or none with --unix, --fd or sockets of systemd",
    )
    serve.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    serve.add_argument("--unix", metavar="PATH", help="the Unix socket to listen at")
    serve.add_argument(
        "--unix-mode",
        type=_mode,
        default=UNIX_MODE,
        metavar="MODE",
        help=f"its permissions, in octal; default: {UNIX_MODE:o}",
    )
    serve.add_argument(
        "--unix-owner",
        metavar="USER[:GROUP]",
        help="its owner, or :GROUP; default: the user who runs this",
    )
    serve.add_argument(
        "--fd",
        action="append",
        type=int,
        metavar="N",
        help="the file descriptor of a socket that is already open",
    )


def _add_what_tells(serve: argparse.ArgumentParser) -> None:
    """Add the options of the metrics and the log."""
    serve.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="the port at which the metrics of all workers are, for Prometheus; default: none",
    )
    serve.add_argument(
        "--metrics-host",
        default=Workers.metrics_host,
        metavar="HOST",
        help="the address for that; default: %(default)s",
    )
    serve.add_argument("--access-log", action="store_true", help="log each request once")
    serve.add_argument(
        "--log-level",
        choices=logs.LEVELS,
        default="info",
        help="the level from which messages are logged; default: %(default)s",
    )
    serve.add_argument(
        "--log-format",
        choices=logs.FORMATS,
        default="text",
        help="the format of each line; default: %(default)s",
    )


def _add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"sockjs-aio {__version__}")


def _count(text: str) -> int:
    if text != "auto":
        try:
            return int(text)
        except ValueError:
            wrong = f"{text!r} must be an integer or auto"
            raise argparse.ArgumentTypeError(wrong) from None
    return usable_cpus()


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        wrong = f"{text!r} must be permissions in octal, such as 660"
        raise argparse.ArgumentTypeError(wrong) from None
