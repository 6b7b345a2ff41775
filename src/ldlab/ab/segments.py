"""For whom: effects by segment, whether they differ, and each drawn towards the others as far as it is uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ldlab.ab.blocks import compare, drawn_of
from ldlab.ab.pooled import Alike, Floats, Pooled, alike, pool
from ldlab.ab.ratio import linearised
from ldlab.ab.rows import need_cross_section
from ldlab.ab.segment_effects import SegmentEffect, Segments, p_text
from ldlab.estimate import Estimate, format_number
from ldlab.program import LdlabError, Study
from ldlab.program.cross_products import POOLED, split_small

NOT_AGREED = "was not agreed: a reason to test, not a finding"
PREFIX = "exploratory: "


@dataclass(frozen=True)
class _Found:
    """The segments of one column before they are compared: names, estimates, covariance, degrees of freedom."""

    column: str
    exploratory: bool
    study: Study
    names: tuple[str, ...]
    shown: tuple[bool, ...]
    left_out: tuple[str, ...]
    adjusted: bool
    value: Floats
    covariance: Floats
    df: Floats


def segments(study: Study) -> Segments | None:
    """Effects by the agreed segment; None where the program names none.

    Each segment by itself: difference in means, or adjusted for covariates where the program's leading estimate is
    (Lin 2013), within strata and by clusters as lots were drawn. The joint test: :func:`ldlab.ab.pooled.alike`. Pooled
    effects: :func:`ldlab.ab.pooled.pool`, with the prior of the spread that the Bayesian model has (``priors.segment_sd``,
    by default half the effect's prior sd).

    Parameters
    ----------
    study
        An experiment's cross-section; with several program arms ``study.lead_comparison``.

    Returns
    -------
    Segments or None
        In effect units. Errors HC2, or CR2 by cluster; t with Satterthwaite's degrees of freedom. Where clusters reach
        over segments, the correlation of segments is that of the clusters' influences on them. Segments under the minimum
        group size are 'smaller groups' together (:func:`ldlab.program.cross_products.split_small`).

    Raises
    ------
    LdlabError
        If the study is a panel.
    """
    need_cross_section(study)
    if "segment" not in study.frame or "censored" in study.frame:
        return None
    name = study.program.design.columns.segment or "segment"
    return _compared([estimated(study, study.frame["segment"], name, exploratory=False)])[0]


def exploratory_segments(study: Study) -> tuple[Segments, ...]:
    """As :func:`segments` for each column that was not agreed; contrasts of all of them share one false discovery rate.

    Benjamini & Hochberg (1995) at ``agreement.false_discovery_rate``; segments overlap between columns, which is the
    positive dependence that it allows.
    """
    need_cross_section(study)
    columns = [str(name) for name in study.frame if str(name).startswith(PREFIX)]
    if not columns or "censored" in study.frame:
        return ()
    return tuple(
        _compared(
            [
                estimated(study, study.frame[name], name.removeprefix(PREFIX), exploratory=True)
                for name in columns
            ]
        )
    )


def estimated(study: Study, label: pd.Series, column: str, *, exploratory: bool) -> _Found:
    """Every segment's own estimate; those that may not be shown together."""
    label = label.astype(str)
    minimum = study.program.analysis.minimum_group_size
    size = pd.crosstab(label, study.frame["arm"]).reindex(columns=[0, 1], fill_value=0)
    shown, hidden = split_small(size, minimum)
    label = label.where(label.isin(shown), POOLED)
    sizes = pd.crosstab(label, study.frame["arm"]).reindex(columns=[0, 1], fill_value=0).min(axis=1)
    wanted = bool(study.program.estimator == "adjusted" and study.covariates)
    for adjusted in (True, False) if wanted else (False,):
        names = [*shown, *([POOLED] if hidden else [])]
        made = {name: _own(study, label == name, adjusted=adjusted) for name in names}
        if all(made[name] is not None for name in shown):
            break
    kept = [name for name in names if made[name] is not None]
    effects = [one for name in kept if (one := made[name]) is not None]
    se = np.array([one[1] for one in effects])
    correlation = _correlation(study, label, kept, adjusted=adjusted)
    return _Found(
        column=column,
        exploratory=exploratory,
        study=replace(study, frame=study.frame.assign(segment=label)),
        names=tuple(kept),
        shown=tuple(bool(sizes[name] >= minimum) for name in kept),
        left_out=tuple(name for name in shown if made[name] is None),
        adjusted=adjusted,
        value=np.array([one[0] for one in effects]),
        covariance=correlation * np.outer(se, se),
        df=np.array([one[2] for one in effects]),
    )


def _own(study: Study, rows: pd.Series, *, adjusted: bool) -> tuple[float, float, float] | None:
    """Value, error and degrees of freedom of one segment; None where it cannot be estimated."""
    part = replace(study, frame=_used(study, rows, adjusted=adjusted))
    if part.frame.groupby("arm").size().reindex([0, 1], fill_value=0).min() < 2:
        return None
    try:
        part = linearised(part) if study.program.kpi.value_type == "rate" else part
        covariates = study.covariates if adjusted else ()
        drawn = drawn_of(part, part.frame, part.frame["arm"].to_numpy(), covariates)
        value, se, df = compare(drawn).contrast((-1.0, 1.0))
    except LdlabError:
        return None
    usable = np.isfinite([value, se, df]).all() and se > 1e-12 * (1 + abs(value)) and df > 0
    return (value, se, df) if usable else None


def _used(study: Study, rows: pd.Series, *, adjusted: bool) -> pd.DataFrame:
    frame = study.frame[rows.to_numpy()]
    return (frame.dropna(subset=list(study.covariates)) if adjusted else frame).reset_index(drop=True)


def _correlation(study: Study, label: pd.Series, names: Sequence[str], *, adjusted: bool) -> Floats:
    """(segments, segments) correlation of their estimates: through clusters that have units in several."""
    if "cluster" not in study.frame or len(names) < 2:
        return np.eye(len(names))
    cluster, found = (
        pd.Index(study.frame["cluster"].unique()),
        np.zeros((study.frame["cluster"].nunique(), 0)),
    )
    for name in names:
        rows = _used(study, label == name, adjusted=adjusted)
        part = replace(study, frame=rows)
        outcome = (linearised(part) if study.program.kpi.value_type == "rate" else part).frame["outcome"]
        own = _influence(outcome, rows, study.covariates if adjusted else ())
        by_cluster = np.bincount(cluster.get_indexer(rows["cluster"]), own, len(cluster))
        found = np.column_stack([found, by_cluster])
    products = found.T @ found
    scale = np.sqrt(np.diag(products))
    return np.asarray(products / np.outer(scale, scale))


def _influence(outcome: pd.Series, rows: pd.DataFrame, covariates: Sequence[str]) -> Floats:
    """(rows,) what each unit's error adds to the difference of the arms at the segment's mean covariates."""
    x = rows[list(covariates)].to_numpy(dtype=float)
    x = np.column_stack([np.ones(len(rows)), x - x.mean(axis=0)])
    y, arm = outcome.to_numpy(dtype=float), rows["arm"].to_numpy()
    found = np.zeros(len(rows))
    for code, sign in ((0, -1.0), (1, 1.0)):
        own = arm == code
        inverse = np.linalg.pinv(x[own])
        found[own] = sign * inverse[0] * (y[own] - x[own] @ (inverse @ y[own]))
    return found


def _compared(columns: Sequence[_Found]) -> list[Segments]:
    """Test, pool and correct for the number of comparisons, over all columns together."""
    contrasts = [_contrasts(found) for found in columns]
    # Of two segments, one contrast is the other's mirror.
    tests = [part[:1, 2] if len(part) == 2 else part[:, 2] for part in contrasts]
    p = np.concatenate([np.zeros(0), *tests])
    program = columns[0].study.program
    if columns[0].exploratory:
        error, method = program.agreement.false_discovery_rate, "fdr_bh"
    else:
        error, method = 1 - program.level, "holm"
    adjusted = multipletests(p, method=method)[1] if len(p) else p
    own = np.split(adjusted, np.cumsum([len(part) for part in tests])[:-1])
    return [
        _made(found, part, np.broadcast_to(corrected, len(part)), error)
        for found, part, corrected in zip(columns, contrasts, own, strict=True)
    ]


def _contrasts(found: _Found) -> Floats:
    """(segments, 3) of each segment less the mean of the others: value, error, two-sided p."""
    count = len(found.names)
    if count < 2:
        return np.zeros((0, 3))
    variance, rows = np.diag(found.covariance), []
    shared = not np.allclose(found.covariance, np.diag(variance))
    for own in range(count):
        weight = np.where(np.arange(count) == own, 0.0, 1 / variance)
        c = -weight / weight.sum()
        c[own] = 1.0
        error = float(np.sqrt(c @ found.covariance @ c))
        parts = c**2 * variance
        df = found.df.min() if shared else parts.sum() ** 2 / (parts**2 / found.df).sum()
        value = float(c @ found.value)
        rows.append((value, error, 2 * float(stats.t.sf(abs(value) / error, df))))
    return np.array(rows)


def _made(found: _Found, contrasts: Floats, p_adjusted: Floats, error: float) -> Segments:
    common = {"column": found.column, "exploratory": found.exploratory, "left_out": found.left_out}
    if len(found.names) < 2:
        who = "the whole" if not found.names else found.names[0]
        why = f"Only one group by {found.column} is large enough to be read ({who}), so nothing can be compared."
        return Segments(**common, sentence=why)
    level = found.study.program.level
    test = alike(found.value, found.covariance, found.df)
    pooled = pool(found.value, found.covariance, _spread_scale(found.study))
    effects = [
        SegmentEffect(
            segment=name,
            own=_own_estimate(found, i),
            pooled=_pooled_estimate(found, pooled, i),
            apart=float(contrasts[i, 0]),
            apart_se=float(contrasts[i, 1]),
            p=float(contrasts[i, 2]),
            p_adjusted=float(p_adjusted[i]),
            differs=bool(p_adjusted[i] < error),
        )
        for i, name in enumerate(found.names)
        if found.shown[i]
    ]
    effects.sort(key=lambda effect: -effect.own.sign * effect.own.value)
    return Segments(
        **common,
        effects=tuple(effects),
        f=test.f,
        df1=test.df1,
        df2=test.df2,
        p=test.p,
        detectable=test.detectable(1 - level),
        spread=pooled.spread(0.5),
        spread_high=pooled.spread((1 + level) / 2),
        sentence=_in_words(found, effects, test),
    )


def _spread_scale(study: Study) -> float:
    """Scale of the half-normal prior of the spread, in effect units; as :func:`ldlab.bayes.priors`."""
    agreed = study.program.priors
    if agreed.segment_sd is not None:
        return float(agreed.segment_sd)
    if agreed.effect is not None:
        return float(agreed.effect.sd) / 2
    sd = float(study.frame.loc[study.frame["arm"] == 0, "outcome"].std())
    return max(2 * abs(study.target), sd / 2) / 2


def _described(found: _Found, segment: int, how: str) -> dict[str, Any]:
    study, name = found.study, found.names[segment]
    cluster = study.program.design.columns.cluster
    adjusted = "regression-adjusted difference" if found.adjusted else "difference in means"
    return {
        "method": f"{adjusted}, {how}",
        "estimand": study.estimand,
        "se_kind": f"CR2, cluster by {cluster}" if "cluster" in study.frame else "HC2",
        "n": study.count(study.frame[study.frame["segment"] == name]),
        "term": f"{name} (exploratory)" if found.exploratory else name,
        **study.measure(),
    }


def _own_estimate(found: _Found, i: int) -> Estimate:
    se = float(np.sqrt(found.covariance[i, i]))
    described = _described(found, i, "segment alone")
    return Estimate.from_t(float(found.value[i]), se, df=float(found.df[i]), **described)


def _pooled_estimate(found: _Found, pooled: Pooled, i: int) -> Estimate:
    study, sign = found.study, found.study.program.kpi.sign
    tail = (1 - study.program.level) / 2

    def reaches(bound: float) -> float:
        below = pooled.below(i, bound)
        return 1 - below if sign > 0 else below

    smallest = abs(study.smallest)
    described = _described(found, i, "partially pooled segments")
    return Estimate(
        value=float(pooled.value[i]),
        se=float(pooled.se[i]),
        low=pooled.quantile(i, tail),
        high=pooled.quantile(i, 1 - tail),
        p_gain=reaches(0.0),
        p_target=reaches(study.target),
        p_worthwhile=reaches(study.smallest),
        p_negligible=max(0.0, pooled.below(i, smallest) - pooled.below(i, -smallest)),
        **described | {"se_kind": f"posterior sd; {described['se_kind']}"},
    )


def _in_words(found: _Found, effects: Sequence[SegmentEffect], test: Alike) -> str:
    program, column = found.study.program, found.column
    start = f"Looking by {column} {NOT_AGREED}. " if found.exploratory else ""
    if not effects:
        return f"{start}All groups by {column} are too small to be shown."
    e, error = effects[0].own, 1 - program.level
    size = _size(e, test.detectable(error))
    seen = f"a spread between segments (sd) of {size} would have been seen 8 times in 10"
    if test.p >= error:
        return f"{start}No sign that the effect differs by {column} (p {p_text(test.p)}); {seen}."
    best, worst = effects[0], effects[-1]
    ends = (
        f"{one.segment} ({e.format(one.own.value, sign=True)} {e.shown_unit}, "
        f"pooled {e.format(one.pooled.value, sign=True)})"
        for one in (best, worst)
    )
    apart = [one.segment for one in effects if one.differs]
    which = f"Apart from the others: {', '.join(apart)}" if apart else "No single one stands apart"
    rule = "false-discovery control" if found.exploratory else "correction for the number of segments"
    said = f"{' and least in '.join(ends)}" if len(effects) > 1 else best.segment
    verb = "seems to differ" if found.exploratory else "differs"
    return (
        f"{start}The effect {verb} by {column} (p {p_text(test.p)}): most in {said}. {which}, after {rule}."
    )


def _size(e: Estimate, spread: float) -> str:
    if e.scale == "log":
        return f"about {format_number(100 * spread, 0)} percent"
    return f"{format_number(spread, e.decimals + 1)} {e.unit}"
