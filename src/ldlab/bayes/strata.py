"""Strata within which lots were drawn, as covariates: units are compared with those of the same chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.program import Study
from ldlab.program.cross_products import POOLED, split_small

MOST = 5  # classes of units with one chance: four columns, for which a model stands compiled
UNEQUAL = 0.05  # p-value of one chance in all strata, under which chances count as different


def with_strata(study: Study) -> Study:
    """The study with a 0/1 covariate for each stratum but the largest, so that it is held constant.

    With more than five strata only their treated shares matter: where they differ by more than chance explains
    (chi-square test), strata of like shares stand together in up to five classes (subclassification on the known
    propensity score, Rosenbaum and Rubin 1984, JASA 79); where they do not, as in matched pairs or blocks of one design,
    leaving strata out biases nothing, and the posterior is wider than it could be. Strata and classes under the minimum
    group size in an arm are put together.

    Parameters
    ----------
    study
        One row per unit; without a stratum it comes back as it is.
    """
    if "stratum" not in study.frame or study.program.design.kind != "randomised":
        return study
    label = _classes(study.frame, study.program.analysis.minimum_group_size)
    columns = {
        f"{study.program.design.columns.stratum}: {name}": (label == name).astype(float)
        for name in label.value_counts().index[1:]
    }
    new = _adding_something(study, columns)
    return replace(study, frame=study.frame.assign(**new), covariates=(*study.covariates, *new))


def _classes(frame: pd.DataFrame, minimum: int) -> pd.Series:
    """What each unit's stratum is held to be: itself, a class of like shares, or the same for all."""
    stratum = frame["stratum"].astype(str)
    if stratum.nunique() > MOST:
        sizes = pd.crosstab(stratum, frame["arm"])
        if stats.chi2_contingency(sizes).pvalue >= UNEQUAL:
            return pd.Series("all", index=frame.index)
        share = frame.groupby(stratum)["arm"].transform("mean").round(6)
        few = share.nunique() <= MOST
        codes = (
            pd.factorize(share, sort=True)[0]
            if few
            else pd.qcut(share, MOST, labels=False, duplicates="drop")
        )
        stratum = pd.Series(codes, index=frame.index).map("like shares, class {}".format)
    sizes = pd.crosstab(stratum, frame["arm"]).reindex(columns=[0, 1], fill_value=0)
    hidden = split_small(sizes, minimum)[1]
    return stratum.mask(stratum.isin(hidden), POOLED)


def _adding_something(study: Study, columns: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Those columns that segments and covariates do not hold already."""
    frame = study.frame
    segment = frame["segment"].astype(str) if "segment" in frame else pd.Series("all", index=frame.index)
    held = np.column_stack([pd.get_dummies(segment, dtype=float), frame[list(study.covariates)]])
    found = {}
    for name, column in columns.items():
        left = column - held @ np.linalg.lstsq(held, column, rcond=None)[0]
        if (left**2).sum() > 1e-8 * len(frame):
            found[name] = column
            held = np.column_stack([held, column])
    return found
