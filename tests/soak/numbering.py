"""The verifier: numbered messages, and what is wrong with the order in which they come."""

from dataclasses import asdict, dataclass

ODD = 'plain, "quoted" \\ <b></script> & %25 % \r\n\t \0 '
ODD += "\u00e9 \u200e \u20ac \u2028 \ufffd \U0001f600 "
"""Text that has to survive whatever a transport does to it."""

PADDING = [(ODD * 10)[:size] for size in range(200)]


def text(kind: str, number: int) -> str:
    """Make message `number` of a kind (one letter): both ends know what it has to be."""
    return f"{kind}{number} {PADDING[number * 37 % 200]}"


def large_text(kind: str, number: int, size: int) -> str:
    """As `text`, of about `size` characters."""
    return f"{kind}{number} {'x' * size}"


def number_of(message: str) -> int:
    """Return the number of a message that `text` or `large_text` has made."""
    return int(message[1 : message.index(" ")])


@dataclass
class Tally:
    """How many messages came, and how many did not come as they should."""

    seen: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    garbled: int = 0

    def add(self, other: "Tally") -> None:
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.reordered or self.garbled)


class Sequence:
    """Checks that numbers come once each, in order.

    A number that comes late is reordered; one that comes again is doubled; one that has not come
    when the sequence is finished is lost.

    Args:
        start: The first number.
    """

    def __init__(self, start: int = 0) -> None:
        self.next = start  # above all that has been seen
        self.missing: set[int] = set()
        self.tally = Tally()

    def see(self, number: int, *, intact: bool = True) -> None:
        """A message has come; `intact` says whether its text was what had been sent."""
        self.tally.seen += 1
        self.tally.garbled += not intact
        if number >= self.next:
            self.missing.update(range(self.next, number))
            self.next = number + 1
        elif number in self.missing:
            self.missing.remove(number)
            self.tally.reordered += 1
        else:
            self.tally.doubled += 1

    def finish(self, end: int | None = None) -> Tally:
        """Nothing more will come; `end`, if known, is the number above the last that should have.

        Numbers from `end` on have never been sent: they count as garbled.
        """
        self.tally.lost = len(self.missing)
        if end is not None:
            self.tally.lost += max(0, end - self.next)
            self.tally.garbled += max(0, self.next - end)
        return self.tally
