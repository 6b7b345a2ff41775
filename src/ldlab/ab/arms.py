"""Several program arms: each against control, and against each other, allowing for several comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.ab.blocks import Compared, compare, drawn_of
from ldlab.ab.clusters import ADJUSTED, ANCOVA, DIFFERENCE, FEW
from ldlab.ab.multiplicity import Family
from ldlab.ab.rows import need_cross_section
from ldlab.estimate import Estimate, Noun, Printed
from ldlab.program import Study


class ArmEffect(Noun):
    """One arm held against another.

    Attributes
    ----------
    arm, against
        Codes of the arms.
    estimate
        With the interval that leads by agreement: simultaneous, or (Holm) single.
    single_low, single_high
        The single interval, in effect units.
    p_value, p_simultaneous, p_holm
        Two-sided: alone, single-step max-t, and Holm's, over the comparisons of its family.
    differs
        Whether no difference is rejected by the agreed method.
    """

    arm: str
    against: str
    estimate: Estimate
    single_low: float
    single_high: float
    p_value: float
    p_simultaneous: float
    p_holm: float
    differs: bool


class Arms(Printed, Noun):
    """Every program arm against control, and against each other.

    Attributes
    ----------
    against_control, against_each_other
        The two families of comparisons; the error rate is held within each.
    multiplicity
        'simultaneous' or 'holm', as agreed.
    critical
        Largest |t| of the comparisons with control that chance gives at the program's level.
    df
        Degrees of freedom of the simultaneous intervals with control.
    left_out
        Arms with fewer units than the minimum group size.
    caution
        What a reader of the intervals has to know; may be empty.
    sentence
        For a leader.
    """

    against_control: tuple[ArmEffect, ...]
    against_each_other: tuple[ArmEffect, ...] = ()
    multiplicity: str
    critical: float
    df: float
    left_out: tuple[str, ...] = ()
    caution: str = ""
    sentence: str

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Against control, with the leading intervals."""
        return tuple(effect.estimate for effect in self.against_control)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each comparison; effects as readers see them."""
        rows = []
        for effect in (*self.against_control, *self.against_each_other):
            e = effect.estimate
            rows.append(
                {
                    "comparison": e.term,
                    f"effect ({e.shown_unit})": e.format(e.value, sign=True),
                    f"{e.level:.0%} from": e.format(e.low, sign=True),
                    "to": e.format(e.high, sign=True),
                    "alone from": e.format(effect.single_low, sign=True),
                    "alone to": e.format(effect.single_high, sign=True),
                    "p, all together": _p(effect.p_simultaneous),
                    "p, Holm": _p(effect.p_holm),
                }
            )
        return pd.DataFrame(rows)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("in words", self.sentence)]
        for effect in (*self.against_control, *self.against_each_other):
            e = effect.estimate
            p = effect.p_simultaneous if self.multiplicity == "simultaneous" else effect.p_holm
            text = f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}, adjusted p {_p(p)}"
            rows.append((e.term, text))
        e = self.against_control[0].estimate
        rows.append(("errors", f"{e.se_kind}; {_how(self.multiplicity, len(self.against_control))}"))
        return [*rows, ("mind", self.caution)] if self.caution else rows

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.table.to_html(border=0, index=False)


def arm_effect(
    arm: str, against: str, single: Estimate, half: float | None, p: tuple[float, float, float]
) -> ArmEffect:
    """One comparison from its single estimate; ``half`` is half the simultaneous interval, None where Holm was agreed.

    ``p`` holds the p values alone, together (max-t) and after Holm.
    """
    alone, together, holm = p
    bounds = {} if half is None else {"low": single.value - half, "high": single.value + half}
    return ArmEffect(
        arm=arm,
        against=against,
        estimate=single.model_copy(update=bounds),
        single_low=single.low,
        single_high=single.high,
        p_value=alone,
        p_simultaneous=together,
        p_holm=holm,
        differs=(holm if half is None else together) < 1 - single.level,
    )


def arm_estimates(found: Arms | None) -> tuple[Estimate, ...]:
    """Each program arm's effect against control; empty where the program has one arm."""
    return () if found is None else tuple(effect.estimate for effect in found.against_control)


def arms(study: Study) -> Arms | None:
    """Hold every program arm against control, and against each other; None with one program arm.

    Arms' means come from one model of all arms: difference in means, or where the program's leading estimate is
    adjusted the covariates by arm (Lin 2013), both within strata and by clusters as lots were drawn
    (:func:`ldlab.ab.assigned_difference`). Simultaneous intervals are single-step max-t from the joint covariance of
    the arms' means (Hothorn, Bretz & Westfall 2008, Biometrical Journal 50; with independent arms of one variance
    Dunnett 1955, and Tukey among each other): with probability ``level`` all of a family hold. Comparisons with control
    are one family, those between program arms another.

    Returns
    -------
    Arms or None
        In effect units. HC2 errors, t with n - k degrees of freedom; CR2 with clusters and HC2 in strata, t with the
        smallest of the comparisons' Satterthwaite degrees. Rates are total count over total exposure in each
        arm (delta method). An arm under the minimum group size is left out and named.

    Raises
    ------
    LdlabError
        If the study is a panel, or as :func:`ldlab.ab.assigned_difference`.
    """
    need_cross_section(study)
    if "variant" not in study.frame or "censored" in study.frame:
        return None
    control = str(study.program.design.control_value)
    rows, codes, small = _large_enough(study, control)
    if len(codes) < 3:
        return None
    adjusted = study.program.estimator == "adjusted" and bool(study.covariates)
    rows = rows.dropna(subset=list(study.covariates)) if adjusted else rows
    arm = rows["variant"].map(codes.index).to_numpy()
    rows = rows.assign(outcome=_rates(rows)) if "exposure" in rows else rows
    drawn = drawn_of(study, rows, arm, study.covariates if adjusted else ())
    compared = compare(drawn)
    by_lot = "cluster" in rows or "stratum" in rows
    df = None if by_lot else float(len(rows) - len(codes) * (1 + drawn.covariates.shape[1]))
    described = _Described(study, rows, arm, codes, compared, adjusted)
    with_control = Family.of(compared, [(i, 0) for i in range(1, len(codes))], len(codes), df=df)
    pairs = [(b, a) for a, b in itertools.combinations(range(1, len(codes)), 2)]
    each_other = Family.of(compared, pairs, len(codes), df=df)
    first, second = described.effects(with_control), described.effects(each_other)
    return Arms(
        against_control=first,
        against_each_other=second,
        multiplicity=study.program.agreement.multiplicity,
        critical=with_control.critical(study.program.level),
        df=with_control.df,
        left_out=small,
        caution=_caution(study, rows, small),
        sentence=arms_in_words(study, first, second),
    )


def _large_enough(study: Study, control: str) -> tuple[pd.DataFrame, list[str], tuple[str, ...]]:
    """The rows of arms that may be shown, their codes with control first, and the arms left out."""
    rows, minimum = study.frame, study.program.analysis.minimum_group_size
    agreed = [str(code) for code in study.program.design.treated_values]
    present = rows["variant"].value_counts()
    named = [code for code in (control, *agreed) if code in present.index]
    large = [code for code in named if present[code] >= minimum]
    small = tuple(code for code in named if code not in large)
    if control not in large:
        return rows, [], small
    return rows[rows["variant"].isin(large)], large, small


def _rates(rows: pd.DataFrame) -> pd.Series:
    """A rate in linear form, by arm: R + (count - R exposure) / mean exposure (Deng, Knoblich & Lu 2018)."""
    weight = pd.Series(1.0, index=rows.index)
    if "stratum" in rows:
        size = rows.groupby("stratum")["unit"].transform("size")
        weight = size / rows.groupby(["stratum", "variant"])["unit"].transform("size")
    count, exposure = rows["count"] * weight, rows["exposure"] * weight
    total, hours, units = (
        part.groupby(rows["variant"]).transform("sum") for part in (count, exposure, weight)
    )
    rate = total / hours
    return rate + (rows["count"] - rate * rows["exposure"]) / (hours / units)


@dataclass(frozen=True)
class _Described:
    """What the comparisons of a study are said to be."""

    study: Study
    rows: pd.DataFrame
    arm: NDArray[Any]
    codes: list[str]
    compared: Compared
    adjusted: bool

    def effects(self, family: Family) -> tuple[ArmEffect, ...]:
        level, agreement = self.study.program.level, self.study.program.agreement
        alone, together, holm = family.p_values
        simultaneous = agreement.multiplicity == "simultaneous"
        critical, made = family.critical(level), []
        for i, (arm, against) in enumerate(family.pairs):
            single = Estimate.from_t(
                family.value[i],
                family.se[i],
                df=family.df,
                method=self._method(),
                estimand=self.study.estimand,
                se_kind=self._se_kind(),
                n=self._counts(arm, against),
                term=f"{self.codes[arm]} against {self.codes[against]}" if against else self.codes[arm],
                **self.study.measure(),
            )
            p = (float(alone[i]), float(together[i]), float(holm[i]))
            half = critical * family.se[i] if simultaneous else None
            made.append(arm_effect(self.codes[arm], self.codes[against], single, half, p))
        return tuple(made)

    def _method(self) -> str:
        how = DIFFERENCE if not self.adjusted else ANCOVA if self.compared.common_slopes else ADJUSTED
        return f"blocked {how}" if "stratum" in self.rows else how

    def _se_kind(self) -> str:
        cluster = self.study.program.design.columns.cluster
        return f"CR2, cluster by {cluster}" if "cluster" in self.rows else "HC2"

    def _counts(self, arm: int, against: int) -> dict[str, int | None]:
        kept = self.compared.kept & np.isin(self.arm, (arm, against))
        rows = self.rows[kept]
        return {
            "treated": int((self.arm[kept] == arm).sum()),
            "comparison": int((self.arm[kept] == against).sum()),
            "clusters": int(rows["cluster"].nunique()) if "cluster" in rows else None,
            "observations": len(rows),
        }


def _caution(study: Study, rows: pd.DataFrame, small: tuple[str, ...]) -> str:
    said = []
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    if small:
        one = "arm" if len(small) == 1 else "arms"
        said.append(f"left out, with fewer than {minimum} {units}: {one} {', '.join(small)}")
    if "cluster" in rows and rows.groupby("variant")["cluster"].nunique().min() < FEW:
        said.append(
            f"an arm has fewer than {FEW} clusters, so these ranges lean on clusters being alike; the headline's comes from "
            "dealing the lots anew"
        )
    return "; ".join(said)


def arms_in_words(study: Study, control: tuple[ArmEffect, ...], each_other: tuple[ArmEffect, ...]) -> str:
    """Which arms differ from control, and which from each other."""
    allowing = f"Allowing for {len(control)} comparisons"
    better, worse = (
        [e.arm for e in control if e.differs and (e.estimate.sign * e.estimate.value > 0) == good]
        for good in (True, False)
    )
    said = [f"{_and(better)} {_do(better)} better than control"] if better else []
    said += [f"{_and(worse)} {_do(worse)} worse than control"] if worse else []
    rest = [e.arm for e in control if not e.differs]
    if rest and said:
        said.append(f"{_and(rest)} cannot be told from control")
    first = f"{allowing}, {', '.join(said)}" if said else f"{allowing}, no arm can be told from control"
    apart = [_order(e) for e in each_other if e.differs]
    second = (
        f"between program arms, {'; '.join(apart)}"
        if apart
        else "the program arms cannot be told from each other"
    )
    return f"{first}; {second}."


def _order(effect: ArmEffect) -> str:
    ahead = effect.estimate.sign * effect.estimate.value > 0
    pair = (effect.arm, effect.against) if ahead else (effect.against, effect.arm)
    return f"{pair[0]} does better than {pair[1]}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _how(multiplicity: str, comparisons: int) -> str:
    if multiplicity == "simultaneous":
        return f"ranges that hold together for {comparisons} comparisons with control (single-step max-t)"
    return f"single ranges; p values after Holm over {comparisons} comparisons with control"


def _p(value: float) -> str:
    return "under 0.001" if value < 0.001 else f"{value:.3f}"
