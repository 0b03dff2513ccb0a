"""What the doctor finds: a verdict in plain words, and the line to change."""

from dataclasses import asdict, dataclass
from typing import Literal

from sockjs_aio.cli.terminal import harmless

Verdict = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Finding:
    """One finding."""

    subject: str
    """A transport's name, or what was examined: ``info``, ``sends``, ``sizes``, ``iframe``."""
    verdict: Verdict
    """``note`` is something to know, which may be right as it is."""
    text: str
    """What was seen."""
    advice: tuple[str, ...] = ()
    """What to change, one line for each place."""

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Return it for people."""
        lines = [f"{self.verdict:7}{self.subject}: {harmless(self.text)}"]
        return "\n".join([*lines, *(f"{'':9}{line}" for line in self.advice)])


UPGRADE = (
    "nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade";',
    "haproxy: use `mode http`, which passes the upgrade on by itself",
)
BUFFERING = (
    "nginx: proxy_buffering off; gzip off; and no proxy_ignore_headers X-Accel-Buffering",
    "haproxy: option http-no-delay, and no `compression` for the service",
)
STICKINESS = (
    "haproxy: `stick on path,field(-2,/,2)`, as in haproxy/by-session.cfg",
    "nginx: `hash $sockjs_session consistent;`, as in docs/deployment.md",
    "or run the processes as workers or nodes, which need no stickiness: docs/workers.md",
)
SIZE = (
    "nginx: client_max_body_size 1m;",
    "the setting max_message_size, if the service itself refuses (1048576 bytes by default)",
)
NO_ECHO = (
    "leave out --echo if the service does not send such a message back to the client",
    "look into the logs of the proxy and of the service for this transport's sends",
)
UNREACHABLE = (
    "check the address, and that the proxy passes everything below the prefix to the service",
)


def timeouts(seconds: float) -> tuple[str, ...]:
    """Return the advice for connections that are cut after so many seconds of silence."""
    return (
        "haproxy: timeout client 60s, timeout server 60s, and for WebSockets timeout tunnel 60s",
        "nginx: proxy_read_timeout 60s;",
        f"or the setting heartbeat_delay={max(seconds * 0.6, 0.1):.2g}, if you cannot change them",
    )
