"""One coroutine per family of transports: it attaches to a session and streams its frames."""
