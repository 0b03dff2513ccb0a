"""Says when Redis may lack sessions that exist.

It may if it has lost its data, or if another server has taken its place before the latest claims
were copied to it.  All nodes that are alive then report their claims again within `expiry`.  Until
that time is over, a session that Redis does not know may still belong to another node.
"""

import math


class Settling:
    """Notes when Redis has lost claims, and tells whether all nodes must have reported them again.

    Args:
        expiry: Seconds after which a node that has not reported counts as dead.
    """

    def __init__(self, expiry: float) -> None:
        self.lost_at: float = -math.inf
        """When Redis was last found to lack claims, or this node's record (loop's clock).

        Claims that were refreshed before that may have been lost to other nodes.
        """
        self.until: float = -math.inf
        """When nodes must have reported again after the last loss that this node has noticed."""
        self.expiry: float = expiry
        self._is_unsettled = False  # what Redis said last
        self._others_until = -math.inf  # the same, for a loss of which Redis has told

    def is_over(self, now: float) -> bool:
        """Tell whether all nodes that are alive must have reported by now."""
        return now >= max(self.until, self._others_until)

    def lose(self, now: float) -> None:
        """Note that this node has noticed a loss; other nodes may have lost claims too."""
        self.lost_at = now
        self.until = now + self.expiry

    def heed(self, is_unsettled: bool, now: float) -> bool:
        """Note whether Redis says that it may lack claims; return whether that is news."""
        is_news = is_unsettled and not self._is_unsettled
        self._is_unsettled = is_unsettled
        if is_news:
            self.lost_at = now
            self._others_until = now + self.expiry
        elif not is_unsettled:
            self._others_until = -math.inf
        return is_news
