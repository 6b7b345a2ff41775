"""Whether the groups can be compared, and whether weighting makes them alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldlab.estimate import Check
from ldlab.observational.propensity import TRIMMED, Propensity, part_text
from ldlab.program import Study

BALANCED = 0.1  # standard deviations
MOSTLY = 0.9  # share of the trained
FEWEST_EFFECTIVE = 30  # people that the weighted comparison group counts for
NO_COVARIATES = (
    "No baseline covariates are named in the program file, so nobody can be shown to be comparable."
)


def overlap(study: Study, propensity: Propensity | None) -> Check | None:
    """Whether the trained have untrained people like them.

    Failed where under 90% of the trained have someone untrained within .1 in log odds of the propensity score
    (the closeness of Imbens & Rubin 2015, chapter 14; the share is a convention of this package), or where the
    weighted comparison group counts for under 30 people (Kish's effective sample size). None for other designs.
    """
    name = "overlap"
    if study.program.design.kind != "observational":
        return None
    if propensity is None:
        return Check(name=name, status="not_run", sentence=NO_COVARIATES, needed=True)
    rows, design = propensity.study, study.program.design
    trained, near = int((rows.frame["arm"] == 1).sum()), propensity.comparable
    share, effective = near / trained, propensity.effective_sample_size
    failed = share < MOSTLY or effective < FEWEST_EFFECTIVE
    few = 0 < trained - near < study.program.analysis.minimum_group_size
    who = f"{part_text(near, trained, study.program.analysis.minimum_group_size)} of {trained:,}"
    sentence = (
        f"{who} trained {design.units} have comparison {design.units} with nearly the same chance of being trained; "
        f"weighted to be like them, the comparison group counts for {effective:,.0f} {design.units}"
    )
    if failed:
        sentence += ": too few to compare with"
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"{sentence}.{_who_is_left_out(rows)}",
        statistic=None if few else share,
        statistic_name="share of the trained with someone comparable",
        threshold=MOSTLY,
        power="people can be alike on record and differ in what nobody recorded",
        needed=True,
    )


def balance_after_weighting(study: Study, propensity: Propensity | None) -> Check | None:
    """Whether the weighted comparison group is like the trained on every covariate.

    Failed where a standardised difference is over .1 after weighting (Austin 2009, Statistics in Medicine 28;
    Stuart, Lee & Leacy 2013, Journal of Clinical Epidemiology 66). None for other designs.
    """
    name = "balance after weighting"
    if study.program.design.kind != "observational":
        return None
    if propensity is None:
        return Check(name=name, status="not_run", sentence=NO_COVARIATES, needed=True)
    table = weighted_balance_table(propensity)
    after = table["after"].abs()
    worst = table["covariate"].iloc[int(after.to_numpy().argmax())]
    before, largest = float(table["before"].abs().max()), float(after.max())
    failed = not largest <= BALANCED
    verdict = "weighting does not make the groups alike" if failed else "alike on what was recorded"
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Weighting takes the largest difference between the groups from {before:.2f} to {largest:.2f} standard "
        f"deviations ({worst}): {verdict}.",
        statistic=largest,
        statistic_name="largest standardised difference",
        threshold=BALANCED,
        power="means of recorded covariates only",
        needed=True,
    )


def weighted_balance_table(propensity: Propensity | None) -> pd.DataFrame:
    """Standardised differences before and after weighting, the largest before on top.

    Returns
    -------
    DataFrame
        ``covariate``, ``before``, ``after``: trained less comparison mean over the root mean of the two variances
        before weighting (Imbens & Rubin 2015, equation 14.1; one denominator for both, after Stuart 2010,
        Statistical Science 25). ``after`` gives the comparison group the weights e / (1 - e). Empty where there
        is no propensity score.
    """
    if propensity is None:
        return pd.DataFrame(columns=["covariate", "before", "after"])
    study, weights = propensity.study, propensity._weights
    is_trained = (study.frame["arm"] == 1).to_numpy()
    values = study.frame[list(study.covariates)].astype(float)
    trained, others = values[is_trained], values[~is_trained]
    spread = np.sqrt((trained.var() + others.var()) / 2)
    weighted = pd.Series(np.average(others, axis=0, weights=weights[~is_trained]), index=values.columns)
    table = pd.DataFrame(
        {
            "before": (trained.mean() - others.mean()) / spread,
            "after": (trained.mean() - weighted) / spread,
        }
    )
    table = table.where(spread > 0, 0.0).rename_axis("covariate").reset_index()
    order = table["before"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _who_is_left_out(study: Study) -> str:
    trained = next(
        (count for why, count in study.left_out if why.startswith("trained") and TRIMMED in why), 0
    )
    if not trained:
        return ""
    minimum = study.program.analysis.minimum_group_size
    count = f"{trained:,}" if trained >= minimum else f"fewer than {minimum}"
    return (
        f" The agreed rule left out {count} trained {study.program.design.units}: the effect is about those trained who "
        "can be compared, not about all."
    )
