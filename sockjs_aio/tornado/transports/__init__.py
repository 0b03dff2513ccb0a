"""What applications import of sockjs-tornado's transports."""

from sockjs_aio.tornado.transports import base

__all__ = ["base"]
