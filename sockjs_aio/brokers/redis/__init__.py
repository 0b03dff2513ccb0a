"""A broker that carries messages over Redis."""

from sockjs_aio.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
