"""A TCP proxy such as stands in front of Redis: it says which server new connections lead to."""

import asyncio
import contextlib
import re
import secrets

_RUN_ID = re.compile(rb"(?<=run_id:)[0-9a-f]{40}")


class Proxy:
    """Connections stay where they are when `target`, a port, is changed.

    `next_targets` are those of the next connections; `accepted` counts them all.  While it
    `is_deaf`, what the server says is lost.  What it says takes `delay` seconds.  If it `renames`,
    each connection tells a run id of its own.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.next_targets: list[int] = []
        self.accepted = 0
        self.is_deaf = False
        self.delay = 0.0
        self.renames = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        target = self.next_targets.pop(0) if self.next_targets else self.target
        try:
            there, back = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.ensure_future(self._pass_on(source, sink, is_answer=source is there))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        run_id = secrets.token_hex(20).encode()
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    await asyncio.sleep(self.delay if is_answer else 0)
                    if self.renames:
                        data = _RUN_ID.sub(run_id, data)
                    if not (is_answer and self.is_deaf):
                        sink.write(data)
                        await sink.drain()
        finally:
            sink.close()
