"""Runs a command: ``sockjs-aio serve`` is the same as ``python -m sockjs_aio serve``."""

import os
import sys

from sockjs_aio.cluster.workers.command import main as serve
from sockjs_aio.migrate.command import main as migrate

_INTERRUPTED = 130
_PIPE_CLOSED = 141
"""The exit statuses that shells show for programs that end by Ctrl-C, or because nobody reads their
output."""


def main(prog: str = "python -m sockjs_aio") -> int:
    """Run the command that the arguments name; return its exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed from the start
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we run
    try:
        try:
            return _run(sys.argv[1:], prog)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # as behind `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what the interpreter flushes at its end
        return _PIPE_CLOSED


def _run(arguments: list[str], prog: str) -> int:
    name, own = arguments[:1], arguments[1:]
    if name == ["migrate"]:
        return migrate(own, f"{prog} migrate")
    # the others do without a client
    if name == ["connect"]:
        from sockjs_aio.cli.connect import main as connect

        return connect(own, prog)
    if name == ["doctor"]:
        from sockjs_aio.cli.doctor.command import main as doctor

        return doctor(own, prog)
    if name == ["bench"]:
        from sockjs_aio.cli.bench.command import main as bench

        return bench(own, prog)
    return serve(arguments, prog=prog)


def script() -> int:
    """Run as the installed script ``sockjs-aio``."""
    sys.path.insert(0, os.getcwd())  # as `python -m` does: `serve` finds your modules there
    return main("sockjs-aio")


if __name__ == "__main__":
    sys.exit(main())
