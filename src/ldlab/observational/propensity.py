"""Propensity score: how likely people like this one were to be trained. Before any outcome is looked at."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import optimize, special

from ldlab.estimate import Printed
from ldlab.program import LdlabError, Study

Floats = NDArray[np.float64]

ARMS = {1: "trained", 0: "comparison"}
TRIMMED = "outside the agreed propensity scores"
CLOSE = 0.1  # difference in log odds within which two people are comparable
SUSPECT = 10.0  # log odds beyond which the fit may be one that does not exist
FINEST = 40  # classes of the score, at most


@dataclass(frozen=True, eq=False, repr=False)
class Propensity(Printed):
    """Estimated chances of training given the covariates. Made by :func:`propensity`.

    It shows groups only; the scores of single people stay inside.

    Attributes
    ----------
    study
        The study that it was estimated on: one row per unit, all with every covariate.
    """

    study: Study
    _x: Floats  # (n, k) a constant and the covariates, centred at the trained people's mean, in sds
    _scores: Floats  # (n,)

    @property
    def effective_sample_size(self) -> float:
        """How many people the weighted comparison group counts for: (sum w)^2 / sum w^2 (Kish 1965)."""
        weights = self._weights[self._arm == 0]
        return float(weights.sum() ** 2 / (weights**2).sum())

    @property
    def comparable(self) -> int:
        """How many trained have someone untrained within .1 in log odds (Imbens & Rubin 2015, chapter 14)."""
        odds = special.logit(self._scores)
        trained, others = odds[self._arm == 1], np.sort(odds[self._arm == 0])
        first = np.searchsorted(others, trained - CLOSE, side="left")
        return int((first < np.searchsorted(others, trained + CLOSE, side="right")).sum())

    @property
    def trim(self) -> tuple[float, float] | None:
        """The agreed bounds of the score; None without a rule, and once it has been applied."""
        rule = self.study.program.agreement.trim_propensity
        return None if rule is None or is_trimmed(self.study) else (rule.below, rule.above)

    def classes(self) -> pd.DataFrame:
        """Numbers of people by class of the score, for a figure.

        Returns
        -------
        DataFrame
            ``low`` and ``high`` (scores; the outer classes are open, to 0 and 1), ``trained``, ``comparison``.
            Classes are joined until each arm has nobody in a class, or at least the minimum group.
        """
        odds = special.logit(self._scores)
        ends = np.array([np.quantile(odds[self._arm == arm], [0.01, 0.99]) for arm in ARMS])
        step = max(0.1, np.ceil(10 * (ends.max() - ends.min()) / FINEST) / 10)
        edges = step * np.arange(np.ceil(ends.min() / step), np.floor(ends.max() / step) + 1)
        kept = _joined(edges, [odds[self._arm == arm] for arm in ARMS], self._minimum)
        counts = {name: _counts(odds[self._arm == arm], kept) for arm, name in ARMS.items()}
        bounds = special.expit(np.concatenate([[-np.inf], kept, [np.inf]]))
        return pd.DataFrame({"low": bounds[:-1], "high": bounds[1:], **counts})

    @property
    def _arm(self) -> Floats:
        return self.study.frame["arm"].to_numpy(dtype=float)

    @property
    def _weights(self) -> Floats:
        """(n,) 1 for the trained, e / (1 - e) for the others: they then stand for the trained (ATT)."""
        return np.where(self._arm == 1, 1.0, self._scores / (1 - self._scores))

    @property
    def _minimum(self) -> int:
        return self.study.program.analysis.minimum_group_size

    def _rows(self) -> list[tuple[str, str]]:
        units, counts = self.study.program.design.units, self.study.count()
        both = self.classes().query("trained > 0 and comparison > 0")
        rows = [
            ("propensity score", f"logistic regression of training on {self._x.shape[1] - 1} covariates"),
            ("who", f"{counts['treated']:,} trained and {counts['comparison']:,} comparison {units}"),
            ("scores with both arms", f"{_range(both)} (in classes of at least {self._minimum} of each)"),
            (
                "weighted to be like the trained",
                f"the comparison group counts for {self.effective_sample_size:,.0f} {units}",
            ),
        ]
        if self.trim is not None:
            outside = ~self._inside(*self.trim)
            said = [
                f"{part_text(int(outside[self._arm == arm].sum()), int((self._arm == arm).sum()), self._minimum)} {name}"
                for arm, name in ARMS.items()
            ]
            low, high = self.trim
            rows.append((f"outside the agreed {low:g} to {high:g}", f"{' and '.join(said)} {units}"))
        return rows

    def _inside(self, below: float, above: float) -> NDArray[np.bool_]:
        return (self._scores >= below) & (self._scores <= above)


def propensity(study: Study) -> Propensity | None:
    """Estimate the propensity score by logistic regression of training on the covariates.

    Parameters
    ----------
    study
        Design observational, one row per unit. Its outcome is not used. Units that lack a covariate are left
        out and counted.

    Returns
    -------
    Propensity or None
        None for other designs, and without covariates.

    Raises
    ------
    LdlabError
        If the covariates separate the arms perfectly (or nearly: some combination of them is found in one arm
        only), so that no score exists; if an arm is left with fewer than the minimum group.

    Notes
    -----
    Rosenbaum & Rubin (1983), Biometrika 70. Separation is decided exactly, by the linear program of Konis
    (2007, thesis, Oxford); the fit alone would look converged.
    """
    if study.program.design.kind != "observational" or not study.covariates:
        return None
    study = _complete_cases(study)
    arm = study.frame["arm"].to_numpy(dtype=float)
    x = _standardised(study.frame[list(study.covariates)], arm)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about separation, which is decided below
        fit = sm.GLM(arm, x, family=sm.families.Binomial()).fit(maxiter=100, tol=1e-10)
    odds = x @ fit.params
    if not np.isfinite(odds).all() or np.abs(odds).max() > SUSPECT:
        _refuse_separation(study, x, arm)
    return Propensity(study, x, special.expit(odds))


def trimmed(study: Study, propensity: Propensity | None) -> Study:
    """The study without people whose propensity score lies outside what was agreed.

    Parameters
    ----------
    study
        Any study.
    propensity
        Of that study, from :func:`propensity`.

    Returns
    -------
    Study
        The same study where ``agreement.trim_propensity`` is not given, or has been applied. Otherwise who is
        left out is counted in ``left_out``, and the effect is then one on the comparable trained people.
        Covariates that are constant among them, or follow from the others, are dropped; the baseline is theirs.
        Estimate the score anew on it
        (Imbens & Rubin 2015, chapter 16).

    Raises
    ------
    LdlabError
        If fewer than the minimum group remain in an arm; if the score is another study's.
    """
    if propensity is None or propensity.trim is None:
        return study
    need_same_units(study, propensity)
    below, above = propensity.trim
    inside = propensity._inside(below, above)
    frame = propensity.study.frame[inside].reset_index(drop=True)
    _need_both_arms(frame, study, f"propensity score from {below:g} to {above:g}")
    left_out = [
        (
            f"{name} {study.program.design.units} {TRIMMED}, {below:g} to {above:g}",
            int((~inside & (propensity._arm == arm)).sum()),
        )
        for arm, name in ARMS.items()
    ]
    rest = replace(
        propensity.study,
        frame=frame,
        covariates=_independent(frame[list(study.covariates)]),
        left_out=(*propensity.study.left_out, *left_out),
        among="among the comparable",
    )
    return replace(rest, baseline=_baseline(rest))


def is_trimmed(study: Study) -> bool:
    """Whether the agreed trimming has been applied."""
    return bool(study.among)


def need_same_units(study: Study, propensity: Propensity) -> None:
    """Refuse a propensity score of other people than the study's."""
    asked, known = _complete_cases(study).frame["unit"], propensity.study.frame["unit"]
    if len(asked) != len(known) or (asked.to_numpy() != known.to_numpy()).any():
        raise LdlabError(
            f"propensity: found scores of {len(known):,} {study.program.design.units}, and a study of others "
            f"({len(asked):,} with all covariates); expected scores of this study. After trimming, estimate them "
            "again: ldlab.observational.propensity(study)."
        )


def _range(classes: pd.DataFrame) -> str:
    """From the lowest to the highest class; an open class is named by its inner bound."""
    if classes.empty:
        return "none"
    low, high = classes.iloc[0], classes.iloc[-1]
    if low["low"] == 0 and high["high"] == 1 and len(classes) == 1:
        return "all"
    bottom = f"{low['low']:.2g}" if low["low"] > 0 else f"under {low['high']:.2g}"
    top = f"{high['high']:.2g}" if high["high"] < 1 else f"over {high['low']:.2g}"
    return f"{bottom} to {top}"


def part_text(count: int, total: int, minimum: int) -> str:
    """A count of a known total, or that it, or what remains, is under the minimum group."""
    if 0 < count < minimum:
        return f"fewer than {minimum}"
    return f"all but fewer than {minimum}" if 0 < total - count < minimum else f"{count:,}"


def _complete_cases(study: Study) -> Study:
    complete = study.frame[list(study.covariates)].notna().all(axis=1)
    if complete.all():
        return study
    frame = study.frame[complete].reset_index(drop=True)
    _need_both_arms(frame, study, "every covariate")
    why = f"{study.program.design.units} without some covariate"
    return replace(study, frame=frame, left_out=(*study.left_out, (why, int((~complete).sum()))))


def _need_both_arms(frame: pd.DataFrame, study: Study, having: str) -> None:
    minimum = study.program.analysis.minimum_group_size
    for arm, name in ARMS.items():
        if (frame["arm"] == arm).sum() < minimum:
            raise LdlabError(
                f"propensity: found fewer than {minimum} {name} {study.program.design.units} with {having}; "
                f"expected at least analysis.minimum_group_size = {minimum} in each arm. Nobody else can be "
                "compared: name fewer covariates, or a wider agreement.trim_propensity."
            )


def _standardised(covariates: pd.DataFrame, arm: Floats) -> Floats:
    values = covariates.to_numpy(dtype=float)
    spread = values.std(axis=0)
    varies = spread > 1e-12 * np.abs(values).max(axis=0)
    centred = values[:, varies] - values[arm == 1][:, varies].mean(axis=0)
    return np.column_stack([np.ones(len(values)), centred / spread[varies]])


def _independent(covariates: pd.DataFrame) -> tuple[str, ...]:
    """Names of the covariates that neither are constant nor follow from those to their left."""
    values = covariates.to_numpy(dtype=float)
    centred = values - values.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    varies = size > 1e-10 * np.linalg.norm(values, axis=0)
    diagonal = np.abs(np.diagonal(np.linalg.qr(centred / np.where(varies, size, 1.0), mode="r")))
    return tuple(str(name) for name, own in zip(covariates, diagonal, strict=True) if own > 1e-8)


def _refuse_separation(study: Study, x: Floats, arm: Floats) -> None:
    """Refuse covariates of which a combination never points to the wrong arm, and at times to the right one."""
    pointing = (2 * arm - 1)[:, None] * x
    found = optimize.linprog(
        -pointing.sum(axis=0), A_ub=-pointing, b_ub=np.zeros(len(x)), bounds=[(-1, 1)] * x.shape[1]
    )
    if found.success and -found.fun < 1e-6 * len(x):  # no more than the solver's tolerance in each row
        return
    frame = study.frame
    alone = [name for name in study.covariates if _separates(frame[name][arm == 1], frame[name][arm == 0])]
    which = ", ".join(alone) if alone else "a combination of covariates"
    raise LdlabError(
        f"propensity: found {which} with values that only trained or only comparison {study.program.design.units} "
        "have, so nobody can be compared there; expected each to be found in both arms. Leave it out of "
        "design.columns.covariates, join its categories, or choose comparable rows with data.query."
    )


def _separates(trained: pd.Series, comparison: pd.Series) -> bool:
    """Whether a bound on one covariate never errs: the ranges of the arms touch at most."""
    return bool(trained.min() >= comparison.max() or trained.max() <= comparison.min())


def _baseline(study: Study) -> float:
    """What untrained people with the trained people's covariates have, in KPI units; see :class:`ldlab.Study`."""
    arm = study.frame["arm"].to_numpy(dtype=float)
    outcome = study.frame["outcome"].to_numpy(dtype=float)
    outcome = np.exp(outcome) if study.program.kpi.scale == "log" else outcome
    x = _standardised(study.frame[list(study.covariates)], arm)
    return float(np.linalg.lstsq(x[arm == 0], outcome[arm == 0], rcond=None)[0][0])


def _joined(edges: Floats, arms: list[Floats], minimum: int) -> Floats:
    """Those of ``edges`` between which each arm has nobody or ``minimum``, and some arm has people."""
    kept: list[float] = []
    for edge in edges:
        if _may_be_shown([_counts(odds, np.array([*kept, edge]))[-2] for odds in arms], minimum):
            kept.append(float(edge))
    while kept and not _may_be_shown([_counts(odds, np.array(kept))[-1] for odds in arms], minimum):
        kept.pop()
    return np.array(kept)


def _may_be_shown(counts: list[int], minimum: int) -> bool:
    return max(counts) > 0 and all(count == 0 or count >= minimum for count in counts)


def _counts(values: Floats, edges: Floats) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
