"""A Redis that answers when and what a test likes, over real sockets."""

import asyncio
import contextlib


class ScriptedRedis:
    """Answers commands in order, on each connection; those in `held` when they are released.

    `answers` has other answers than the usual ones; `commands` is all that has come, and `times` is
    when.  Answers are `delay` seconds on their way.
    """

    USUAL = {  # noqa: RUF012
        b"PING": b"+PONG\r\n",
        b"PUBLISH": b":0\r\n",
        b"EVAL": b"*0\r\n",
        b"EXEC": b"*0\r\n",
    }

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.times: list[float] = []
        self.delay = 0.0
        self.answers: dict[bytes, bytes] = {}
        self.held: dict[bytes, asyncio.Event] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: list[tuple[asyncio.StreamWriter, list[bytes]]] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}"

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def hold(self, verb: bytes) -> None:
        """Answer no `verb` until `release`."""
        self.held[verb] = asyncio.Event()

    def release(self, verb: bytes) -> None:
        """Answer the next `verb` that waits, or comes."""
        self.held[verb].set()

    def count(self, verb: bytes) -> int:
        return sum(command[0] == verb for command in self.commands)

    def cut(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def say(self, data: bytes) -> None:
        """Send `data`, whatever it is, to all clients."""
        for writer in self._writers:
            writer.write(data)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._tasks.append(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                command = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    command.append((await reader.readexactly(size + 2))[:-2])
                self.commands.append(command)
                self.times.append(asyncio.get_running_loop().time())
                if command[0] in self.held:
                    await self.held[command[0]].wait()
                    self.held[command[0]].clear()
                if command[0] == b"SUBSCRIBE":
                    self._listening.append((writer, command[1:]))
                self._write(writer, self._answer(*command))
                if command[0] == b"PUBLISH":
                    self._pass_on(*command[1:])
        writer.close()

    def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, writer.write, data)
        else:
            writer.write(data)

    def _pass_on(self, name: bytes, payload: bytes) -> None:
        for writer, names in self._listening:
            if name in names:
                writer.write(message(name, payload))

    def _answer(self, verb: bytes, *arguments: bytes) -> bytes:
        if verb in self.answers:
            return self.answers[verb]
        if verb in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
            kind = verb.lower()
            return b"".join(
                b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(kind), kind, len(name), name)
                for name in arguments
            )
        return self.USUAL.get(verb, b"+OK\r\n")


def message(name: bytes, payload: bytes) -> bytes:
    parts = (b"message", name, payload)
    return b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(x), x) for x in parts)
