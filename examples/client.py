"""Prints each message of a SockJS service, and connects again whenever the connection is lost.

python -m examples.client http://127.0.0.1:8080/echo hello
"""

import asyncio
import sys

from sockjs_aio.client import ConnectionClosedError, connect


async def follow(url: str, greetings: list[str]) -> None:
    async for socket in connect(url):
        try:
            for greeting in greetings:
                await socket.send(greeting)
            async for message in socket:
                print(f"{socket.transport}: {message}", flush=True)
        except ConnectionClosedError as error:
            print(f"closed: {error}", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], sys.argv[2:]))
