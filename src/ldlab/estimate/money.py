"""Money: full cost against benefit, with what would change the answer."""

from __future__ import annotations

import numpy as np
from pydantic import PrivateAttr

from ldlab.estimate.text import Noun, Printed, format_money


class Sensitivity(Noun):
    """One input's 5% and 95% ends, and the net benefit there, every other input at its best guess."""

    input: str
    unit: str
    owner: str
    low: float
    high: float
    net_at_low: float
    net_at_high: float
    changes_sign: bool


class Money(Printed, Noun):
    """Fully loaded cost against the benefit of the horizon, in the currency of the program file.

    Attributes
    ----------
    cost, cost_of_time, participants, beneficiaries
        Full cost (mean), its part that is working time; people whose cost is counted, and whose benefit.
    net, benefit, roi, p_payback, loss_of_scaling, loss_of_stopping
        Net benefit, benefit, ROI in percent; chance that net >= 0; means of max(0, -net) and of max(0, net).
    break_even, net_at_best_guess, sensitivity, said
        Effect (as readers see it) at which benefit equals cost, all else at its best guess; (name, text) to read.
    """

    currency: str
    cost: float
    cost_of_time: float
    participants: int
    beneficiaries: int
    owner: str
    level: float
    horizon_years: float
    net: float | None = None
    net_low: float | None = None
    net_high: float | None = None
    net_at_best_guess: float | None = None
    benefit: float | None = None
    benefit_low: float | None = None
    benefit_high: float | None = None
    roi: float | None = None
    roi_low: float | None = None
    roi_high: float | None = None
    p_payback: float | None = None
    loss_of_scaling: float | None = None
    loss_of_stopping: float | None = None
    break_even: float | None = None
    break_even_unit: str = ""
    sensitivity: tuple[Sensitivity, ...] = ()
    said: tuple[tuple[str, str], ...] = ()
    _draws: tuple[float, ...] = PrivateAttr(())

    @property
    def draws(self) -> np.ndarray | None:
        """(draws,) of the net benefit; None where none can be stated, and after saving."""
        return np.array(self._draws) if self._draws else None

    def _rows(self) -> list[tuple[str, str]]:
        return list(self.said)

    def amount(self, value: float) -> str:
        """An amount in this currency, to three significant digits."""
        return format_money(value, self.currency)
