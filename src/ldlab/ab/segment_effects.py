"""What is said of the segments of one column: each one's effect, and whether they differ."""

from __future__ import annotations

from ldlab.estimate import Estimate, Noun, Printed, format_chance


class SegmentEffect(Noun):
    """The effect in one segment.

    Attributes
    ----------
    own
        From the segment's own units alone.
    pooled
        Drawn towards the other segments' effects as far as ``own`` is uncertain.
    apart, apart_se, p, p_adjusted
        ``own`` less the mean of the other segments' (by precision), its error, and the two-sided p value: alone, and
        after Holm over the agreed segments, or Benjamini and Hochberg over all exploratory ones.
    differs
        Whether ``p_adjusted`` is below one less the program's level (exploratory: the false discovery rate).
    """

    segment: str
    own: Estimate
    pooled: Estimate
    apart: float
    apart_se: float
    p: float
    p_adjusted: float
    differs: bool


class Segments(Printed, Noun):
    """Effects by the segments of one column.

    Attributes
    ----------
    column, exploratory
        Its name, and whether it was not agreed.
    effects
        The segments that may be shown and can be estimated, the largest gain (own) first.
    f, df1, df2, p
        The joint test that all segments have one effect; None where fewer than two segments can be estimated.
    detectable
        The sd of effects between segments that this test would see 8 times in 10, in effect units.
    spread, spread_high
        Posterior median of that sd, and its bound at the program's level.
    left_out
        Segments of the minimum size that cannot be estimated.
    sentence
        For a leader.
    """

    column: str
    exploratory: bool
    effects: tuple[SegmentEffect, ...] = ()
    f: float | None = None
    df1: float | None = None
    df2: float | None = None
    p: float | None = None
    detectable: float | None = None
    spread: float | None = None
    spread_high: float | None = None
    left_out: tuple[str, ...] = ()
    sentence: str

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The pooled ones: what should be read."""
        return tuple(effect.pooled for effect in self.effects)

    @property
    def alone(self) -> tuple[Estimate, ...]:
        """Each from its own units."""
        return tuple(effect.own for effect in self.effects)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(f"by {self.column}{', exploratory' if self.exploratory else ''}", self.sentence)]
        for effect in self.effects:
            e, own = effect.pooled, effect.own
            alone, chance = own.format(own.value, sign=True), format_chance(e.p_gain)
            pooled = f"{e.format(e.value, sign=True)} {e.shown_unit} ({e.interval_text()})"
            rows.append((e.term, f"{pooled}; alone {alone}; chance of any gain {chance}"))
        if self.p is not None:
            test = f"F({self.df1:.0f}, {self.df2:.1f}) = {self.f:.2f}, p {p_text(self.p)}"
            rows.append(("all alike?", test))
        if self.left_out:
            rows.append(("cannot be estimated", ", ".join(self.left_out)))
        return rows


def p_text(p: float) -> str:
    """A p value as sentences say it."""
    return "under .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".")
