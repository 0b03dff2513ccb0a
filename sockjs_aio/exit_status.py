"""Runs a command of this package, and returns its exit status, however it ends."""

import io
import os
import sys
from collections.abc import Callable

_INTERRUPTED = 130
_PIPE_CLOSED = 141
"""The exit statuses that shells show for programs that end by Ctrl-C, or because nobody reads their
output."""

_LAST_OF_STREAMS = 2
"""The file descriptor of stderr."""


def exit_status(run: Callable[[], int]) -> int:
    """Call `run`; return its exit status, or that for Ctrl-C or a pipe that was closed."""
    replace_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # messages and paths may have anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:  # as behind `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what the interpreter flushes at its end
        return _PIPE_CLOSED


def replace_closed_streams() -> None:
    """Let this process write to stdout and stderr even if they were closed from the start.

    No socket gets one of their file descriptors, or that of stdin: what is started has others.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _LAST_OF_STREAMS:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as we run
