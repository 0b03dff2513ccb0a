"""A connection that does with channels what its client says, and ways to say it."""

from typing import Any, ClassVar

from sockjs_aio import BrokerUnavailableError, SockJSConnection


class Talker(SockJSConnection):
    """Obeys ``sub CHANNEL [MEMBER]``, ``watch CHANNEL [MEMBER]``, ``unsub CHANNEL``,
    ``pub CHANNEL TEXT`` and ``others CHANNEL TEXT``, and answers ``done`` or ``unavailable``.
    """

    left: ClassVar[list["Talker"]] = []

    async def on_message(self, message: str | bytes) -> None:
        verb, channel, *rest = str(message).split(" ", 2)
        try:
            if verb in ("sub", "watch"):
                member = rest[0] if rest else None
                await self.subscribe(channel, member=member, presence=verb == "watch")
            elif verb == "unsub":
                self.unsubscribe(channel)
            elif verb == "pub":
                await self.publish(channel, rest[0])
            else:
                await self.publish(channel, rest[0], exclude=self)
        except BrokerUnavailableError:
            self.send("unavailable")
        else:
            self.send("done")


async def tell(client: Any, *commands: str, answer: str = "done") -> None:
    """Have `client`'s connection obey, and see that it has; nothing else may come meanwhile."""
    for command in commands:
        await client.send(command)
        assert await client.messages(1) == [answer]
