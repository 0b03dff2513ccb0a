"""What a benchmark counts.  No I/O: the talkers say what they have sent and what has come."""

import collections
import math
from dataclasses import dataclass, field

_STEP = math.log(1.01)
_SHORTEST = 1e-6


class Latencies:
    """How long messages took, to 1 %: a long run takes no more memory than a short one."""

    def __init__(self) -> None:
        self.longest: float = 0.0
        self._counts: collections.Counter[int] = collections.Counter()

    def add(self, seconds: float) -> None:
        """Count a message that took so long."""
        self.longest = max(self.longest, seconds)
        self._counts[int(math.log(max(seconds, _SHORTEST) / _SHORTEST) / _STEP)] += 1

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the messages did not exceed; 0 without any."""
        left = share * self._counts.total()
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return min(_SHORTEST * math.exp((bucket + 0.5) * _STEP), self.longest)
        return 0.0


@dataclass
class Tally:
    """The counts of all sessions."""

    sent: int = 0
    received: int = 0
    lost: int = 0
    """Messages that did not come back although their session went on."""
    cut_off: int = 0
    """Messages that were on their way when their session ended."""
    doubled: int = 0
    reordered: int = 0
    """Messages that came after one that was sent later."""
    changed: int = 0
    others: int = 0
    """Messages that the service has not had from the session that got them."""
    transports: collections.Counter[str] = field(default_factory=collections.Counter)
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    """How many sessions failed, by kind."""
    examples: dict[str, str] = field(default_factory=dict)
    """What the first failure of each kind said."""
    latencies: Latencies = field(default_factory=Latencies)

    def failed(self, kind: str, text: str) -> None:
        """Count a session that failed."""
        self.errors[kind] += 1
        self.examples.setdefault(kind, text)

    @property
    def is_clean(self) -> bool:
        """Whether every message came back once, in order and as it was, and no session failed."""
        wrong = self.lost + self.cut_off + self.doubled + self.reordered + self.changed
        return wrong + self.errors.total() == 0


class Numbers:
    """The numbered messages of one session.

    Args:
        token: What its messages begin with, 8 characters.
        size: Characters of a message.
        tally: What counts.
    """

    def __init__(self, token: str, size: int, tally: Tally) -> None:
        self._prefix = f"{token}:"
        self._size = size
        self._tally = tally
        self._count = 0
        self._highest = -1
        self._sent_at: dict[int, float] = {}

    @property
    def outstanding(self) -> int:
        """How many messages have not come back."""
        return len(self._sent_at)

    def next(self, now: float) -> str:
        """Return the next message, which is sent now."""
        number = self._count
        self._count += 1
        self._tally.sent += 1
        self._sent_at[number] = now
        return self._text(number)

    def came(self, message: object, now: float) -> bool:
        """Count a message that came; return whether it is one that had not come back."""
        if not isinstance(message, str) or not message.startswith(self._prefix):
            self._tally.others += 1
            return False
        begin = len(self._prefix)
        digits = message[begin : message.find(":", begin)]
        number = int(digits) if digits.isdecimal() and len(digits) < 20 else -1
        if not 0 <= number < self._count or message != self._text(number):
            self._tally.changed += 1
            return False
        sent_at = self._sent_at.pop(number, None)
        if sent_at is None:
            self._tally.doubled += 1
            return False
        self._tally.received += 1
        self._tally.reordered += number < self._highest
        self._highest = max(self._highest, number)
        self._tally.latencies.add(now - sent_at)
        return True

    def end(self, *, has_failed: bool) -> None:
        """Count what has not come back by the end of the session."""
        if has_failed:
            self._tally.cut_off += self.outstanding
        else:
            self._tally.lost += self.outstanding
        self._sent_at.clear()

    def _text(self, number: int) -> str:
        return f"{self._prefix}{number}:".ljust(self._size, "x")
