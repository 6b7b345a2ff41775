"""Whether the result outlives trends that break after training as they did before."""

from __future__ import annotations

from typing import Protocol

from ldlab.checks.shared import not_run
from ldlab.estimate import Check, Estimate

NAME = "honest trends"
AS_BEFORE = 1.0


class Honest(Protocol):
    """What :func:`honest_trends` reads of :class:`ldlab.did.HonestBounds`."""

    @property
    def original(self) -> Estimate | None: ...  # noqa: D102
    @property
    def breakdown(self) -> float | None: ...  # noqa: D102
    @property
    def sentence(self) -> str: ...  # noqa: D102
    @property
    def span(self) -> int: ...  # noqa: D102
    @property
    def period(self) -> str: ...  # noqa: D102


def honest_trends(bounds: Honest) -> Check:
    """Whether the result holds although trends break as much as before training: failed if its breakdown is under 1.

    1 is the benchmark of Rambachan & Roth (2023, Review of Economic Studies 90): after training the trend breaks by
    no more than the largest break seen before. Under it, a break of a kind already seen, in each period and in one
    direction, would undo the result. That is harsh for averages over many periods, and where few noisy periods were
    seen before; so the grade does not presume the check. Not run where the interval includes zero already with
    parallel trends.
    """
    if bounds.original is None or bounds.breakdown is None:
        return not_run(NAME, bounds.sentence)
    failed = bounds.breakdown < AS_BEFORE
    verdict = (
        "A break of a size already seen, in every period, would undo it."
        if failed
        else "It outlives, in every period, a break as large as any seen."
    )
    return Check(
        name=NAME,
        status="failed" if failed else "passed",
        sentence=f"{bounds.sentence} {verdict}",
        statistic=bounds.breakdown,
        statistic_name="breakdown, in multiples of the largest break before training",
        threshold=AS_BEFORE,
        power=f"it knows breaks from {bounds.span} {bounds.period}s before training, and their noise counts as "
        "breaks; it cannot see a kind of break that never came before training",
    )
