"""Limit on the wait for a generation's last results. Pure."""

from __future__ import annotations


class Patience:
    """Wait for the rest once ``enough`` results are in.

    As long again as it took from the submission until they were: so far the rest was no slower
    than the others. After a restart, from the restart on: time in which nobody could bring a
    result is held against no one. Times are seconds since 1970.
    """

    def __init__(self, enough: int, *, began: float) -> None:
        self._enough, self._began = enough, began
        self._arrived: list[float] = []

    def arrived(self, when: float) -> None:
        """Note that a result came in."""
        self._arrived.append(when)

    def is_over(self, submitted: float, now: float) -> bool:
        """Return whether to go on without the rest of what was ``submitted``."""
        if len(self._arrived) < max(1, self._enough):
            return False
        complete = sorted(self._arrived)[max(1, self._enough) - 1]
        took = max(0.0, complete - submitted)
        return now - max(complete, self._began) > took
