"""Publishes from programs without an event loop, such as those of Django and Flask."""

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from sockjs_aio.brokers.checks import (
    check_channel,
    check_delay,
    check_message,
    check_prefix,
    check_size,
)
from sockjs_aio.brokers.redis.payload import make_close_label, make_label, pack
from sockjs_aio.brokers.redis.replies import ends_connection, reason
from sockjs_aio.brokers.redis.url import address, make_sync_pool
from sockjs_aio.errors import BrokerUnavailableError, SettingsError
from sockjs_aio.protocol.ends import GO_AWAY, check_close
from sockjs_aio.protocol.names import check_key

NO_LIMIT = 1 << 31
"""Connections of a pool: redis-py 8 would refuse the 101st thread."""


class RedisPublisher:
    """Publishes to the channels of servers that have a `RedisBroker`, and waits for Redis.

    Make one for the program.  Threads may share it, and a process that forks may make it before.
    It connects when it is needed, and keeps a connection for each thread that publishes at a time.
    In a coroutine, use `RedisBroker` instead: this one would block the event loop.

    Args:
        url: Where Redis is, as for `RedisBroker`.
        prefix: The beginning of the names of channels in Redis, as for `RedisBroker`.
        timeout: Seconds that connecting, and the answer of Redis, may take.
        max_message_size: Bytes of a message in UTF-8.

    Raises:
        SettingsError: If an argument is not valid.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "sockjs:",
        timeout: float = 4,
        max_message_size: int = 1 << 20,
    ) -> None:
        check_prefix(prefix)
        check_delay("timeout", timeout)
        check_size("max_message_size", max_message_size)
        self._prefix = prefix
        self._limit = max_message_size
        try:
            self._pool = make_sync_pool(
                url,
                retry=Retry(NoBackoff(), 0),  # nothing may be sent twice
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                max_connections=NO_LIMIT,
                decode_responses=False,
                protocol=2,
            )
        except ValueError as error:
            raise SettingsError(f"the Redis URL is not valid: {error}") from None
        self._redis = Redis(connection_pool=self._pool)

    def publish(self, channel: str, message: str, *, key: str | None = None) -> None:
        """Send `message` to all subscribers of `channel`, in all processes.

        Args:
            channel: The channel's name.
            message: Text.
            key: For each subscriber, replace what is still queued with the same key.

        Raises:
            BrokerUnavailableError: If the message may not have reached all processes.
            TypeError, ValueError: If an argument is not valid.
        """
        check_channel(channel)
        check_message(message, self._limit)
        if key is not None:
            check_key(key)
        self._send(channel, pack(message, b"" if key is None else make_label(key=key)))

    def close_channel(
        self, channel: str, code: int = GO_AWAY.code, reason: str = GO_AWAY.reason
    ) -> None:
        """Close all sessions that are subscribed to `channel`, in all processes.

        Args:
            channel: The channel's name.
            code: The close code.
            reason: The reason that clients get.

        Raises:
            BrokerUnavailableError: If some processes may not have closed theirs.
            TypeError, ValueError: If an argument is not valid.
        """
        check_channel(channel)
        check_close(code, reason)
        check_message(reason, self._limit)
        self._send(channel, pack(reason, make_close_label(code)))

    def close(self) -> None:
        """Close the connections that no thread is using; the next call connects again."""
        # the thread that uses one would get errors of redis-py that say nothing
        self._pool.disconnect(inuse_connections=False)

    def __enter__(self) -> "RedisPublisher":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, channel: str, payload: bytes) -> None:
        commands = self._redis.pipeline(transaction=False)
        commands.delete(f"{self._prefix}probe")  # which a replica refuses: it reaches few
        commands.publish(self._prefix + channel, payload)
        try:
            probe, sent = commands.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise BrokerUnavailableError(f"Redis at {self}: {reason(error)}") from error
        if isinstance(probe, ResponseError) and ends_connection(probe):
            self.close()  # behind a proxy, a new connection may lead to another server
            raise BrokerUnavailableError(f"Redis at {self}: {reason(probe)}")
        if isinstance(sent, RedisError):
            raise BrokerUnavailableError(f"Redis at {self} refuses: {reason(sent)}")

    def __str__(self) -> str:
        return address(self._pool)
