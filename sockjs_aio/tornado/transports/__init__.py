"""The only module of sockjs-tornado's transports that applications import."""

from sockjs_aio.tornado.transports import base

__all__ = ["base"]
