"""The effect on compliers, those who come if they are offered the program and else do not: the offer as instrument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import statsmodels.api as sm
from linearmodels.iv import IV2SLS
from scipy import stats

from ldlab.ab.blocks import compare, drawn_of
from ldlab.ab.clusters import FEW, rule_of
from ldlab.ab.means import CONSTANT, adjusting_design
from ldlab.ab.rows import complete_cases, need_cross_section
from ldlab.estimate import COMPLIERS_ASSUME, Estimate, Noun, Printed, format_number
from ldlab.program import Study

INSTRUMENT = "instrumental variable"
INSTRUMENT_ADJUSTED = "instrumental variable, covariates adjusted for"
WEAK = 10  # first-stage F under which an instrument is called weak (Staiger & Stock 1997, Econometrica 65)


class Compliers(Printed, Noun):
    """Whom the offer brought, whether an effect on them can be stated, and what it would rest on.

    Attributes
    ----------
    share
        Share of units that attend if offered and else do not, in percent; None where a group is too small.
    first_stage
        F of attendance on the offer; ``se_kind`` says with which errors. None where a group is too small.
    reason
        Why no effect is stated; empty where one is.
    """

    share: float | None = None
    first_stage: float | None = None
    se_kind: str
    reason: str = ""

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("what has to hold", COMPLIERS_ASSUME)]
        if self.share is not None:
            rows.insert(0, ("came because they were offered", f"{format_number(self.share, 0)}%"))
        if self.first_stage is not None:
            weak = f"; under {WEAK}, a weak offer: read the interval, not the estimate"
            text = f"first-stage F {format_number(self.first_stage, 1)} ({self.se_kind})"
            rows.append(("strength of the offer", text + (weak if self.first_stage < WEAK else "")))
        if self.reason:
            rows.append(("no effect on those who came", self.reason))
        return rows


@dataclass(frozen=True)
class Stages:
    """What the offer did to the KPI (``outcome``) and to attendance (``came``), with their joint covariance.

    ``level`` is that of the Anderson-Rubin interval, ``df`` those of its t.
    """

    outcome: float
    came: float
    outcome_variance: float
    came_variance: float
    covariance: float
    df: float
    level: float

    @property
    def f(self) -> float:
        """First-stage F (one instrument: the squared t)."""
        return self.came**2 / self.came_variance

    def chance_above(self, effect: float) -> float:
        """One less the one-sided p value of the Anderson-Rubin test that the compliers' effect is ``effect``."""
        variance = self.outcome_variance - 2 * effect * self.covariance + effect**2 * self.came_variance
        return float(stats.t.cdf((self.outcome - effect * self.came) / math.sqrt(variance), self.df))

    def interval(self) -> tuple[float, float] | None:
        """Effects that the Anderson-Rubin test does not reject; None where they have no end on some side.

        (outcome - b came)^2 <= t^2 var(outcome - b came) is a quadratic in b (Fieller 1954).
        """
        t2 = stats.t.ppf((1 + self.level) / 2, self.df) ** 2
        a = self.came**2 - t2 * self.came_variance
        b = self.outcome * self.came - t2 * self.covariance
        c = self.outcome**2 - t2 * self.outcome_variance
        if a <= 0:
            return None
        half = math.sqrt(max(b**2 - a * c, 0.0))
        return (b - half) / a, (b + half) / a


def complier_estimates(study: Study) -> tuple[Estimate, ...]:
    """Effects on compliers, the plain one first, then that adjusted for covariates; empty where there are none."""
    found = [complier_effect(study)]
    if study.covariates:
        found.append(complier_effect(study, adjusted=True))
    return tuple(estimate for estimate in found if estimate is not None)


def complier_effect(study: Study, *, adjusted: bool = False) -> Estimate | None:
    """The complier average causal effect (CACE): what attending did to those whom the offer brought.

    Two-stage least squares, attendance instrumented by the offer (Imbens & Angrist 1994, Econometrica 62; Angrist,
    Imbens & Rubin 1996, JASA 91). Without covariates it is Wald's ratio: the effect of the offer on the KPI over its
    effect on attendance; where the program names strata, of the two blocked differences. It holds under
    :attr:`ldlab.Estimate.assumption`, beside an offer made at random to units that do not touch each other.

    Parameters
    ----------
    study
        A cross-section, one row per unit: ``arm`` offered, ``treated`` attended.
    adjusted
        Baseline covariates as exogenous controls in both stages; units that lack one are left out. As the offer was
        random, both answers are right; this one is the more precise where covariates predict the KPI.

    Returns
    -------
    Estimate or None
        In effect units. ``se`` is HC1, or clustered where the program names a cluster column (as in
        :func:`ldlab.ab.difference_in_means`); within strata HC2 or CR2, by the delta method. Interval and chances
        invert the Anderson-Rubin test with the same errors, which stays right however few the offer brought (Anderson &
        Rubin 1949; Andrews, Stock & Sun 2019, Annual Review of Economics 11), and excludes zero exactly when the
        effect of the offer with that error does; where the offer brought many it is ``value`` +- t ``se``.
        None where the program names no offer beside attendance, where nobody deviated from the offer, and where
        :func:`compliers` says why.

    Raises
    ------
    LdlabError
        If the study is a panel; with ``adjusted``, as :func:`ldlab.ab.regression_adjusted` with common slopes.
    """
    if not _some_deviate(study):
        return None
    rows = complete_cases(study) if adjusted else study.frame
    if _too_small(study, rows):
        return None
    design = adjusting_design(study, rows, interactions=False) if adjusted else plain_design(rows)
    stages = _stages_by_lot(study, rows, design)
    interval = stages.interval()
    if interval is None:
        return None
    value, se = _ratio(rows, design, stages)
    smallest = abs(study.smallest)
    sign = study.program.kpi.sign
    effects = (0.0, study.target, study.smallest)
    p_gain, p_target, p_worthwhile = (stages.chance_above(effect) for effect in effects)
    return Estimate(
        method=INSTRUMENT_ADJUSTED if adjusted else INSTRUMENT,
        estimand="CACE",
        value=value,
        se=se,
        se_kind=f"{_by_lot(study)}; Anderson-Rubin interval",
        df=stages.df,
        low=interval[0],
        high=interval[1],
        n=study.count(rows),
        p_gain=p_gain if sign > 0 else 1 - p_gain,
        p_target=p_target if sign > 0 else 1 - p_target,
        p_worthwhile=p_worthwhile if sign > 0 else 1 - p_worthwhile,
        p_negligible=max(0.0, stages.chance_above(-smallest) - stages.chance_above(smallest)),
        **study.measure(),
    )


def compliers(study: Study) -> Compliers | None:
    """Whom the offer brought, and whether an effect on them can be stated; None where nobody deviated from the offer.

    Returns
    -------
    Compliers or None
        With a ``reason`` instead of numbers where a group of offered or not, attended or not, or the compliers
        themselves, are under the minimum group size: beside the effect of the offer, theirs would give away how many
        they are.

    Raises
    ------
    LdlabError
        If the study is a panel.
    """
    if not _some_deviate(study):
        return None
    rows, kind = study.frame, _by_lot(study)
    reason = _too_small(study, rows)
    if reason:
        return Compliers(se_kind=kind, reason=reason)
    stages = _stages_by_lot(study, rows, plain_design(rows))
    if stages.interval() is None:
        reason = "the offer brought too few to attend who would not have come anyway: the data cannot bound the effect on them"
    return Compliers(share=100 * stages.came, first_stage=stages.f, se_kind=kind, reason=reason)


def _some_deviate(study: Study) -> bool:
    """Whether the program names an offer and attendance, and someone did not do as assigned."""
    columns = study.program.design.columns
    if columns.assignment is None or columns.treatment is None:
        return False
    need_cross_section(study)
    return bool((study.frame["arm"] != study.frame["treated"]).any())


def _too_small(study: Study, rows: pd.DataFrame) -> str:
    """Why these rows may not, or cannot, give an effect on compliers; empty where they do."""
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    counts = pd.crosstab(rows["arm"], rows["treated"]).reindex(index=[0, 1], columns=[0, 1], fill_value=0)
    if counts.sum(axis=1).min() < minimum:
        return f"an arm has fewer than {minimum} {units}"
    if ((counts > 0) & (counts < minimum)).to_numpy().any():
        return (
            f"one of the groups (offered or not, came or not) has fewer than {minimum} {units}, and this effect would "
            "give away how many; the effect of the offer stands"
        )
    came = counts[1] / counts.sum(axis=1)
    if (came[1] - came[0]) * counts.loc[1].sum() < minimum:
        return f"the offer brought fewer than {minimum} {units}"
    if "cluster" in rows and rule_of(study, rows) != "CR2":
        return f"an arm has fewer than {FEW} clusters, too few for an error of a ratio; the effect of the offer stands"
    return ""


def plain_design(rows: pd.DataFrame) -> pd.DataFrame:
    """Constant and arm."""
    return pd.DataFrame({CONSTANT: 1.0, "arm": rows["arm"].astype(float)})


def se_kind_of(study: Study) -> str:
    """Which standard errors a study gets here."""
    return f"cluster by {study.program.design.columns.cluster}" if "cluster" in study.frame else "HC1"


def _by_lot(study: Study) -> str:
    """The kind of error, within strata where lots were drawn so."""
    if "stratum" not in study.frame:
        return se_kind_of(study)
    columns = study.program.design.columns
    return f"{f'CR2, cluster by {columns.cluster}' if 'cluster' in study.frame else 'HC2'}, within strata"


def _clusters(rows: pd.DataFrame) -> Any:
    return pd.factorize(rows["cluster"])[0]


def _ratio(rows: pd.DataFrame, design: pd.DataFrame, stages: Stages) -> tuple[float, float]:
    """The effect on compliers and its error: two-stage least squares, or within strata Wald's ratio by the delta method."""
    if "stratum" not in rows:
        fit = _two_stage(rows, design)
        return float(fit.params["treated"]), float(fit.std_errors["treated"])
    value = stages.outcome / stages.came
    variance = stages.outcome_variance - 2 * value * stages.covariance + value**2 * stages.came_variance
    return value, math.sqrt(variance) / abs(stages.came)


def _two_stage(rows: pd.DataFrame, design: pd.DataFrame) -> Any:
    """The fit of two-stage least squares; small-sample corrections as in :mod:`ldlab.ab.means`."""
    outcome, came = rows["outcome"].astype(float), rows["treated"].astype(float)
    model = IV2SLS(outcome, design.drop(columns="arm"), came, design["arm"])
    if "cluster" in rows:
        return model.fit(cov_type="clustered", clusters=_clusters(rows), debiased=True)
    return model.fit(cov_type="robust", debiased=True)


def two_stages(study: Study, rows: pd.DataFrame, design: pd.DataFrame) -> Stages:
    """The two regressions on the offer; their covariance by var(a - b) = var(a) + var(b) - 2 cov(a, b)."""

    def fit(values: pd.Series) -> Any:
        model = sm.OLS(values.astype(float), design)
        if "cluster" in rows:
            return model.fit(cov_type="cluster", cov_kwds={"groups": _clusters(rows)}, use_t=True)
        return model.fit(cov_type="HC1", use_t=True)

    # In sds of the KPI, so that the difference of the two does not lose digits.
    scale = float(rows["outcome"].std()) or 1.0
    outcome = rows["outcome"] / scale
    of_outcome, of_came, of_difference = (
        fit(values) for values in (outcome, rows["treated"], outcome - rows["treated"])
    )
    first, second, both = (float(f.bse["arm"] ** 2) for f in (of_outcome, of_came, of_difference))
    return Stages(
        outcome=scale * float(of_outcome.params["arm"]),
        came=float(of_came.params["arm"]),
        outcome_variance=scale**2 * first,
        came_variance=second,
        covariance=scale * (first + second - both) / 2,
        df=float(rows["cluster"].nunique() - 1 if "cluster" in rows else of_outcome.df_resid),
        level=study.program.level,
    )


def _stages_by_lot(study: Study, rows: pd.DataFrame, design: pd.DataFrame) -> Stages:
    """:func:`two_stages`, or within strata the blocked differences of outcome and attendance."""
    if "stratum" not in rows:
        return two_stages(study, rows, design)
    scale = float(rows["outcome"].std()) or 1.0
    outcome, came = rows["outcome"] / scale, rows["treated"].astype(float)
    names = study.covariates if design.shape[1] > 2 else ()
    arm = rows["arm"].to_numpy()
    (y, y_se, df), (d, d_se, _), (_, both, _) = (
        compare(drawn_of(study, rows.assign(outcome=values), arm, names)).contrast((-1.0, 1.0))
        for values in (outcome, came, outcome - came)
    )
    return Stages(
        outcome=scale * y,
        came=d,
        outcome_variance=(scale * y_se) ** 2,
        came_variance=d_se**2,
        covariance=scale * (y_se**2 + d_se**2 - both**2) / 2,
        df=df,
        level=study.program.level,
    )
