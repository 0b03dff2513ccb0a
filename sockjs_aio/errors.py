"""The exceptions of this package; nothing here does anything.

::

    SockJSError
    +-- SettingsError (ValueError)      the application: a setting that cannot be used
    +-- TooManyChannels                 the application: a session that subscribes without end
    +-- BrokerUnavailable               the broker: what lies behind it does not answer
    +-- ReceiverRefused                 the peer: a receiving request that gets a close frame only
    |   +-- ReceiverConflict            the session writes to another one
    |   +-- SessionEnded                the session has ended
    +-- PayloadError                    the peer: a body or WebSocket message that is not SockJS
    |   +-- PayloadMissing
    |   +-- PayloadBroken
    |   +-- PayloadTooLarge
    +-- BodyTimeout                     the peer: a request body that does not come to its end
    +-- CallbackError                   the peer: a `callback` parameter that cannot be used

Whatever a peer does wrong is answered by the transports and never reaches the application.
"""


class SockJSError(Exception):
    """Base of all exceptions of this package."""


class SettingsError(SockJSError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class TooManyChannels(SockJSError):
    """The session is subscribed to as many channels as the broker's `max_channels` allows."""


class BrokerUnavailable(SockJSError):
    """What lies behind the broker cannot be reached, or does not answer in time.

    Sessions of this process got the message.  Whether others did is not known.
    """


class ReceiverRefused(SockJSError):
    """A receiving request gets a close frame, and nothing else.

    Args:
        frame: The close frame.
    """

    def __init__(self, frame: bytes) -> None:
        super().__init__(frame.decode())
        self.frame = frame


class ReceiverConflict(ReceiverRefused):
    """The session writes to another response already (answered with ``c[2010,...]``)."""


class SessionEnded(ReceiverRefused):
    """The session has ended and is not opened again (answered with its close frame)."""


class PayloadError(SockJSError):
    """A peer sent a payload that is not a JSON array of strings."""


class PayloadMissing(PayloadError):
    """The payload is empty."""


class PayloadBroken(PayloadError):
    """The payload is not valid UTF-8, not valid JSON, or not an array of strings."""


class PayloadTooLarge(PayloadError):
    """The payload has more bytes or more messages than the settings allow."""


class BodyTimeout(SockJSError):
    """A request has not brought its body within `receive_timeout`."""


class CallbackError(SockJSError):
    """The `callback` parameter is missing or is not a plain name."""
