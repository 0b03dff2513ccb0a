"""The exceptions of this package; nothing here does anything.

::

    SockJSError
    +-- SettingsError (ValueError)      the application: a setting that cannot be used
    +-- TooManyChannelsError            the application: a session that subscribes without end
    +-- BrokerUnavailableError          the broker: what lies behind it does not answer
    +-- ReceiverRefusedError            the peer: a receiving request that gets a close frame only
    |   +-- ReceiverConflictError       the session writes to another one
    |   +-- SessionEndedError           the session has ended
    +-- PayloadError                    the peer: a body or WebSocket message that is not SockJS
    |   +-- PayloadMissingError
    |   +-- PayloadBrokenError
    |   +-- PayloadTooLargeError
    +-- BodyTimeoutError                the peer: a request body that does not come to its end
    +-- CallbackError                   the peer: a `callback` parameter that cannot be used

Whatever a peer does wrong is answered by the transports and never reaches the application.
"""


class SockJSError(Exception):
    """Base of all exceptions of this package."""


class SettingsError(SockJSError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class TooManyChannelsError(SockJSError):
    """The session is subscribed to as many channels as the broker's `max_channels` allows."""


class BrokerUnavailableError(SockJSError):
    """What lies behind the broker cannot be reached, or does not answer in time.

    Sessions of this process got the message.  Whether others did is not known.
    """


class ReceiverRefusedError(SockJSError):
    """A receiving request gets a close frame, and nothing else.

    Args:
        frame: The close frame.
    """

    def __init__(self, frame: bytes) -> None:
        super().__init__(frame.decode())
        self.frame = frame


class ReceiverConflictError(ReceiverRefusedError):
    """The session writes to another response already (answered with ``c[2010,...]``)."""


class SessionEndedError(ReceiverRefusedError):
    """The session has ended and is not opened again (answered with its close frame)."""


class PayloadError(SockJSError):
    """A peer sent a payload that is not a JSON array of strings."""


class PayloadMissingError(PayloadError):
    """The payload is empty."""


class PayloadBrokenError(PayloadError):
    """The payload is not valid UTF-8, not valid JSON, or not an array of strings."""


class PayloadTooLargeError(PayloadError):
    """The payload has more bytes or more messages than the settings allow."""


class BodyTimeoutError(SockJSError):
    """A request has not brought its body within `receive_timeout`."""


class CallbackError(SockJSError):
    """The `callback` parameter is missing or is not a plain name."""
