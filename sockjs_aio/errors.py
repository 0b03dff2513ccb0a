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
    +-- ConnectError                    Python client: there is no connection to the server
    +-- ConnectionClosedError           Python client: the connection has ended
    +-- ServerFrameError                server: it sent to the Python client what is not SockJS

The transports answer the client's errors; the application never sees them.  Those of the Python
client are raised by `sockjs_aio.client`; it turns a ServerFrameError into a ConnectionClosedError.
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


class ConnectError(SockJSError):
    """No transport could be opened, or the server did not answer as a SockJS server does.

    Args:
        message: What went wrong.
        is_temporary: Whether a later attempt may succeed.
    """

    def __init__(self, message: str, *, is_temporary: bool = True) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary


class ConnectionClosedError(SockJSError):
    """The connection has ended; all messages that came before have been received.

    Args:
        code: The close code, as for WebSockets (RFC 6455).  1006 means that the connection was
            lost, 1002 that the server broke the protocol.
        reason: The close reason, or what went wrong.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason

    @property
    def is_normal(self) -> bool:
        """Whether one side simply ended it: 1000, 1001, 1005 (no code), or 3000 (``Go away!``)."""
        return self.code in (1000, 1001, 1005, 3000)


class ServerFrameError(SockJSError):
    """What a server sent is not a SockJS frame, or not in the form that its transport has."""
