"""Runs a command: ``sockjs-aio serve`` is the same as ``python -m sockjs_aio serve``."""

import os
import sys

from sockjs_aio.cluster.workers.command import main as serve
from sockjs_aio.exit_status import exit_status
from sockjs_aio.migrate.command import main as migrate


def main(prog: str = "python -m sockjs_aio") -> int:
    """Run the command that the arguments name; return its exit status."""
    return exit_status(lambda: _run(sys.argv[1:], prog))


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
