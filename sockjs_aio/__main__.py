"""Runs a command: ``sockjs-aio serve`` is the same as ``python -m sockjs_aio serve``."""

import os
import sys

from sockjs_aio.cluster.workers.command import main as serve
from sockjs_aio.migrate.command import main as migrate


def main(prog: str = "python -m sockjs_aio") -> int:
    """Run the command that the arguments name; return its exit status."""
    if sys.argv[1:2] == ["migrate"]:
        return migrate(sys.argv[2:])
    if sys.argv[1:2] == ["connect"]:
        from sockjs_aio.cli.connect import main as connect  # the others do without a client

        return connect(sys.argv[2:], prog)
    if sys.argv[1:2] == ["doctor"]:
        from sockjs_aio.cli.doctor.command import main as doctor

        return doctor(sys.argv[2:], prog)
    return serve(prog=prog)


def script() -> int:
    """Run as the installed script ``sockjs-aio``."""
    sys.path.insert(0, os.getcwd())  # as `python -m` does: `serve` finds your modules there
    return main("sockjs-aio")


if __name__ == "__main__":
    sys.exit(main())
