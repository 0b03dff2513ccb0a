"""A broker that carries messages over Redis, and what publishes without an event loop."""

from sockjs_aio.brokers.redis.broker import RedisBroker
from sockjs_aio.brokers.redis.publisher import RedisPublisher

__all__ = ["RedisBroker", "RedisPublisher"]
