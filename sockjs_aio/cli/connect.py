"""The command ``sockjs-aio connect URL``: lines in are messages out, and the other way round.

Messages go to stdout, and all that is said about the connection to stderr, so that you can put the
command into a pipe.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Sequence

from sockjs_aio.cli.session import add_options, add_transports, new_session
from sockjs_aio.cli.terminal import harmless
from sockjs_aio.client import (
    TRANSPORTS,
    ClientSocket,
    ConnectError,
    ConnectionClosedError,
    connect,
)
from sockjs_aio.errors import SettingsError


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} connect",
        description="Connect to a SockJS service.  Each line that you type is sent as a message; "
        "what comes is printed.  Ctrl-D or Ctrl-C ends it.  The exit status is 1 if the connection "
        "fails or is not closed normally.",
    )
    add_options(parser)
    add_transports(parser)
    parser.add_argument(
        "--linger",
        type=float,
        default=1,
        metavar="SECONDS",
        help="after the end of the input, go on receiving for so long; default: %(default)g",
    )
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_connect(options))
    except SettingsError as error:
        parser.error(str(error))
    except (ConnectError, ConnectionClosedError) as error:
        _say(f"closed: {error}" if isinstance(error, ConnectionClosedError) else str(error))
        return 1
    return 0


async def _connect(options: argparse.Namespace) -> None:
    transports = options.transport or TRANSPORTS
    connecting = connect(options.url, transports=transports)  # complain first of a wrong URL
    async with new_session(options) as session:
        connecting = connect(options.url, transports=transports, session=session)
        async with connecting as socket:
            _say(f"connected over {socket.transport}")
            socket.on_heartbeat = lambda: _say("heartbeat")
            sending = asyncio.create_task(_send_lines(socket, options.linger))
            try:
                async for message in socket:
                    text = message if isinstance(message, (str, bytes)) else json.dumps(message)
                    shown = harmless(str(text)) if sys.stdout.isatty() else text
                    print(shown, flush=True)
                _say(f"closed: {socket.close_code} {socket.close_reason}".rstrip())
            finally:
                sending.cancel()


async def _send_lines(socket: ClientSocket, linger: float) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()
    wanted = threading.Semaphore(1)  # lines that may be in the queue
    loop = asyncio.get_running_loop()

    def put(line: str) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, line)

    # a daemon: nothing can wake a thread that waits for the keyboard
    threading.Thread(target=_read_lines, args=(put, wanted), daemon=True).start()
    with contextlib.suppress(ConnectionClosedError):  # what receives says so
        while line := await lines.get():
            await socket.send(line.rstrip("\r\n"))
            wanted.release()
        await asyncio.sleep(linger)
        await socket.close()


def _read_lines(put: Callable[[str], object], wanted: threading.Semaphore) -> None:
    """Put each line, and "" at the end of the input."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        if sys.stdin is not None:  # it is None if the input was closed from the start
            # a file of our own: the interpreter could not lock sys.stdin at its end
            with open(0, errors="backslashreplace", closefd=False) as file:
                while wanted.acquire() and (line := file.readline()):
                    put(line)
        put("")


def _say(text: str) -> None:
    print(f"# {harmless(text)}", file=sys.stderr, flush=True)
