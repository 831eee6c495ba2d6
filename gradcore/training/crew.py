"""How long the next stretch of steps is, and whether it is made alone or by the whole team: what was quicker lately."""

from __future__ import annotations

STRETCH = 0.04  # seconds of compiled steps between two visits to Python
TELLING = 0.004  # seconds below which a stretch tells nothing of who is quicker
AGAIN = 32  # stretches after which the slower way is tried again: another job may have come or gone


class Crew:
    """Decides before every stretch, from the time that the ones before it took.

    Two threads are worth it or not by the network, the batch, and what else runs on the machine, which no rule knows
    beforehand. The bits are the same either way.

    Attributes
    ----------
    alone : bool
        Whether the next stretch is made by the calling thread only.
    pace : int
        The most steps of the next stretch.

    Examples
    --------
    >>> crew = Crew(choose=True)
    >>> for seconds in (0.020, 0.010, 0.010):  # the team, then alone, then whoever was quicker
    ...     crew.took(10, seconds)
    >>> crew.alone
    True
    """

    def __init__(self, *, choose: bool = False) -> None:
        self.choose, self.alone, self.pace = choose, False, 1
        self._seconds: dict[bool, float] = {}  # of a step, by whether it was made alone
        self._since = 0  # stretches in a row by the quicker way

    def took(self, steps: int, seconds: float) -> None:
        """Tell how long the last stretch took."""
        # at most eight times as many steps as last time: one quick stretch proves little
        self.pace = max(1, min(int(steps * STRETCH / max(seconds, 1e-9)), 8 * steps))
        if not self.choose or seconds < TELLING:
            return
        self._seconds[self.alone] = seconds / steps
        self._since += 1
        if len(self._seconds) < 2 or self._since >= AGAIN:
            self.alone, self._since = not self.alone, 0
        else:
            self.alone = self._seconds[True] < self._seconds[False]
