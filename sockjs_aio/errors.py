"""The exceptions of this package.

::

    SockJSError
    +-- SettingsError (ValueError)      application: a setting is not valid
    +-- TooManyChannelsError            application: a session has too many subscriptions
    +-- BrokerUnavailableError          broker: its server cannot be reached or does not answer
    +-- ReceiverRefusedError            client: a receiving request gets only a close frame
    |   +-- ReceiverConflictError       the session already writes to another request
    |   +-- SessionEndedError           the session has ended
    +-- PayloadError                    client: a body or WebSocket message is not valid SockJS
    |   +-- PayloadMissingError
    |   +-- PayloadBrokenError
    |   +-- PayloadTooLargeError
    +-- BodyTimeoutError                client: a request body is not complete in time
    +-- CallbackError                   client: a `callback` parameter is not valid

The transports answer the client's errors; the application never sees them.
"""


class SockJSError(Exception):
    """Base of all exceptions of this package."""


class SettingsError(SockJSError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class TooManyChannelsError(SockJSError):
    """The session is subscribed to as many channels as the broker's `max_channels` allows."""


class BrokerUnavailableError(SockJSError):
    """The broker's server, such as Redis, cannot be reached or does not answer in time.

    Subscribers in this process got the message.  Those in other processes may or may not have.
    """


class ReceiverRefusedError(SockJSError):
    """A receiving request gets a close frame and nothing else.

    Args:
        frame: The close frame.
    """

    def __init__(self, frame: bytes) -> None:
        super().__init__(frame.decode())
        self.frame = frame


class ReceiverConflictError(ReceiverRefusedError):
    """The session already writes to another response (answered with ``c[2010,...]``)."""


class SessionEndedError(ReceiverRefusedError):
    """The session has ended and cannot be opened again (answered with its close frame)."""


class PayloadError(SockJSError):
    """A client sent a payload that is not a JSON array of strings."""


class PayloadMissingError(PayloadError):
    """The payload is empty."""


class PayloadBrokenError(PayloadError):
    """The payload is not valid UTF-8, not valid JSON, or not an array of strings."""


class PayloadTooLargeError(PayloadError):
    """The payload has more bytes or more messages than the settings allow."""


class BodyTimeoutError(SockJSError):
    """A request's body did not arrive within `receive_timeout`."""


class CallbackError(SockJSError):
    """The `callback` parameter is missing or is not a plain name."""
