"""When a session that Redis does not know does not exist.

Redis may lack claims of nodes that live: it has lost its data, or another server has taken its
place, to which the last ones had not come.  All nodes then report their claims again, within
`expiry`, or else they count as dead.  Until that time is over, nobody may conclude anything from
what Redis does not know.
"""

import math


class Settling:
    """Notes losses of claims, and tells whether all nodes must have made them good.

    Args:
        expiry: Seconds within which all nodes that live report again.
    """

    def __init__(self, expiry: float) -> None:
        self.lost_at: float = -math.inf
        """When Redis was last found to lack claims, or this node's record (loop's clock).

        Claims that were refreshed before that may have been lost to other nodes.
        """
        self.until: float = -math.inf
        """When what this node has found itself is over."""
        self.expiry: float = expiry
        self._is_unsettled = False  # what Redis said last
        self._others_until = -math.inf  # when what another node has found, or the start, is over

    def is_over(self, now: float) -> bool:
        """Tell whether all nodes must have reported."""
        return now >= max(self.until, self._others_until)

    def lose(self, now: float) -> None:
        """Note that this node has found that Redis lacks claims of any nodes."""
        self.lost_at = now
        self.until = now + self.expiry

    def heed(self, is_unsettled: bool, now: float) -> bool:
        """Note what Redis says of it; return whether it is news that it lacks claims."""
        is_news = is_unsettled and not self._is_unsettled
        self._is_unsettled = is_unsettled
        if is_news:
            self.lost_at = now
            self._others_until = now + self.expiry
        elif not is_unsettled:
            self._others_until = -math.inf
        return is_news
