"""Whether an experiment kept to its protocol: one arm each, nothing before assignment, arms kept apart."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from ldlab.checks.assigned import (
    STRAY,
    arm_column,
    arm_names,
    counted,
    in_one_arm,
    more_than_stray,
    opened,
    share_text,
    shares_differ_p,
    shares_in_words,
    the,
)
from ldlab.checks.shared import (
    POWER,
    assigned_by_cluster,
    can_be_shown,
    count_text,
    not_run,
    plain,
)
from ldlab.estimate import Check
from ldlab.program import Study

CONTROL_MET = 0.05
BEFORE_P = 0.001
CONSTANT_P = 0.001
CONTAMINATION_P = 0.01
FEWEST_TEAMS = 20
WRONG_ARM = 0.01


def people_in_two_arms(study: Study) -> Check | None:
    """Whether units were found in more than one arm: failed if more than one unit, and over 0.1% of the assigned.

    They are in no estimate. None where nobody drew lots.
    """
    if study.program.design.kind != "randomised" or study.assigned is None:
        return None
    units, total = study.program.design.units, len(study.assigned)
    twice = int(study.assigned["two_arms"].sum())
    failed = more_than_stray(twice, total)
    if twice == 0:
        sentence = f"No {study.program.design.unit} was found in two arms."
    elif not failed:
        sentence = (
            f"{opened(share_text(twice, total, study))} of the {units} were found in two arms; left out."
        )
    else:
        who = f"{count_text(twice, study)} {units}"
        if can_be_shown(twice, study):
            who += f" ({twice / total:.1%} of those assigned)"
        sentence = (
            f"{who} were found in two arms and left out; those who remain may differ between the arms. Look for "
            "people who were assigned again after a change of team, device or account, and for the arm that their "
            "first assignment gave."
        )
    return Check(
        name="people in two arms",
        status="failed" if failed else "passed",
        sentence=opened(sentence),
        statistic=100 * twice / total if can_be_shown(twice, study) else None,
        statistic_name="percent in two arms",
        threshold=100 * STRAY,
        power="every unit was looked at; it cannot see people who have two ids",
        breaks=True,
    )


def exposed_before_assignment(study: Study) -> Check | None:
    """Whether units met the program before they were assigned: failed if more than one, and over 0.1% of the exposed.

    By day where either column has days only. None where the program names no ``assigned_on`` and ``exposed_on``.
    """
    rows = in_one_arm(study)
    if not {"assigned_on", "exposed_on"} <= set(rows):
        return None
    known = rows[["assigned_on", "exposed_on"]].dropna()
    name, units = "exposed before assignment", study.program.design.units
    if len(known) < study.program.analysis.minimum_group_size:
        return not_run(name, f"Both dates are known for too few {units}.")
    early = int(_earlier(known["exposed_on"], known["assigned_on"]).sum())
    failed = more_than_stray(early, len(known))
    share = share_text(early, len(known), study)
    if early == 0:
        sentence = f"None of the {units} met the program before they were assigned."
    else:
        sentence = f"{opened(share)} of the {units} who met the program did so before they were assigned"
        sentence += (
            ": they, or those who assigned, could choose. Look for an earlier pilot, and for assignment dates that "
            "were written later than the lot was drawn."
            if failed
            else "."
        )
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=100 * early / len(known) if can_be_shown(early, study) else None,
        statistic_name="percent of the exposed",
        threshold=100 * STRAY,
        power="every unit with both dates was looked at",
        breaks=True,
    )


def comparison_kept_apart(study: Study) -> Check | None:
    """Whether the comparison met the program before its KPI was measured: failed over 5% of them.

    None where no ``exposed_on`` is named, or where the program was offered (``columns.assignment``): then
    ``take_up`` says who came, and the effect on those who came accounts for it.
    """
    rows, columns = in_one_arm(study), study.program.design.columns
    if "exposed_on" not in rows or (columns.assignment is not None and columns.treatment is not None):
        return None
    control = rows[rows["arm"] == 0]
    met = control["exposed_on"].notna()
    if "measured_on" in control:
        met &= ~_earlier(control["measured_on"], control["exposed_on"])
    count, units = int(met.sum()), study.program.design.units
    failed = count > CONTROL_MET * len(control)
    sentence = f"{opened(share_text(count, len(control), study))} of the comparison {units} met the program"
    sentence += " before their KPI was measured" if "measured_on" in control else ""
    if failed:
        sentence += (
            ", so that the arms differ by less than the program. If it was offered by lot, name the lot in "
            "columns.assignment and who came in columns.treatment"
        )
        later = "; if they met it only after the KPI was measured, name columns.measured_on"
        sentence += "" if "measured_on" in control else later
    return Check(
        name="comparison kept apart",
        status="failed" if failed else "passed",
        sentence=f"{sentence}.",
        statistic=100 * count / len(control) if can_be_shown(count, study) else None,
        statistic_name="percent of the comparison",
        threshold=100 * CONTROL_MET,
        power="it sees what was logged; talk among colleagues leaves no date",
        breaks=True,
    )


def clusters_kept_whole(study: Study) -> Check | None:
    """Whether people are in their cluster's arm, where whole clusters were assigned: failed over 1% in another.

    Clusters count as assigned whole where fewer than half as many people are outside their cluster's most frequent
    arm as lots for single people would leave there. None without clusters, or where people were assigned singly.
    """
    if study.program.design.kind != "randomised" or "cluster" not in study.frame:
        return None
    rows, units = in_one_arm(study), study.program.design.units
    counts = counted(rows["cluster"], rows[arm_column(study)], arm_names(study))
    outside = int((counts.sum(axis=1) - counts.max(axis=1)).sum())
    if outside >= 0.5 * _outside_by_lot(counts, study.program.analysis.seed):
        return None
    failed = outside > WRONG_ARM * len(rows)
    share = share_text(outside, len(rows), study)
    sentence = f"{opened(share)} of the {units} are in another arm than the rest of their cluster"
    if failed:
        sentence += (
            ": either they moved after the lot, or single people were assigned. Look for transfers, and give each the "
            "cluster that it had when lots were drawn"
        )
    return Check(
        name="clusters kept whole",
        status="failed" if failed else "passed",
        sentence=f"{sentence}.",
        statistic=100 * outside / len(rows) if can_be_shown(outside, study) else None,
        statistic_name="percent in another arm",
        threshold=100 * WRONG_ARM,
        power="every unit was looked at",
        breaks=True,
    )


def contamination(study: Study) -> Check | None:
    """Whether the comparison's KPI moves with the share of trained teammates: two-sided p < .01.

    Regression of teams' means, among the comparison, of the KPI on the share of teammates assigned to training (both
    less their stratum's mean where lots were drawn in strata); HC3 errors, t of teams - 2. When single people are
    assigned, chance decides how many teammates are trained, and a slope is spillover. Means, not people, because the
    teams with most trained have the fewest comparison people, which errors clustered by team take badly: 2.7% false
    alarms at 25 teams, here 1.4%. None where no team is named or whole teams were assigned.
    """
    if study.program.design.kind != "randomised" or "team" not in study.frame:
        return None
    name, rows = "contamination in teams", in_one_arm(study)
    if rows.groupby("team")["arm"].nunique().max() == 1 or assigned_by_cluster(study):
        return None
    by_team = rows.groupby("team")["arm"]
    others = by_team.transform("size") - 1
    share = ((by_team.transform("sum") - rows["arm"]) / others.where(others > 0)).rename("share")
    seen = rows.assign(share=share)[(rows["arm"] == 0) & rows["outcome"].notna() & share.notna()]
    within = seen["stratum"] if "stratum" in seen else pd.Series(0, index=seen.index)
    centred = seen[["share", "outcome"]] - seen.groupby(within)[["share", "outcome"]].transform("mean")
    teams = centred.groupby(seen["team"]).mean()
    if len(teams) < FEWEST_TEAMS or teams["share"].std() < 1e-9 or teams["outcome"].std() == 0:
        reason = (
            f"Fewer than {FEWEST_TEAMS} teams have comparison {study.program.design.units} with teammates, "
        )
        return not_run(name, reason + "or all have the same share of trained teammates.")
    fit = sm.OLS(teams["outcome"], sm.add_constant(teams["share"])).fit(cov_type="HC3", use_t=True)
    slope, se, df = float(fit.params["share"]), float(fit.bse["share"]), float(fit.df_resid)
    p = float(fit.pvalues["share"])
    failed = p < CONTAMINATION_P
    kpi = study.program.kpi
    size = f"{plain(abs(slope) / 10)} {kpi.effect_unit} {'higher' if slope > 0 else 'lower'}"
    sentence = (
        f"{opened(kpi.label)} of the comparison does not clearly depend on how many teammates are trained"
    )
    if failed:
        sentence = (
            f"With every tenth of the teammates that was trained {kpi.label} of the comparison is {size}: the program "
            "reaches beyond those who were assigned, and the comparison no longer shows what happens without it. Look "
            "for shared material and work done together; assign whole teams next time"
        )
    seen_slope = (stats.t.isf(CONTAMINATION_P / 2, df) + stats.t.ppf(POWER, df)) * se / 10
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"{sentence}.",
        statistic=p,
        statistic_name="p-value",
        threshold=CONTAMINATION_P,
        power=f"{plain(float(seen_slope))} {kpi.effect_unit} with every tenth of the teammates would have been seen "
        "4 times in 5; spillover that reaches all teams alike cannot be seen",
        breaks=True,
    )


def before_known_alike(study: Study) -> Check | None:
    """Whether the KPI before assignment is missing as often in every arm: failed at p < .001.

    Before assignment nothing can differ by arm, so that a difference says it was recorded, or joined, later. Chi-square
    of units, Kruskal-Wallis of the clusters' shares where whole clusters were assigned. None where no
    ``kpi.before_column`` is named.
    """
    rows = in_one_arm(study)
    if "before" not in rows:
        return None
    missing, code = rows["before"].isna(), arm_column(study)
    label, units = study.program.kpi.label, study.program.design.units
    p = shares_differ_p(missing, rows, study)
    failed = p < BEFORE_P
    by_arm = missing.groupby(rows[code]).sum()
    sentence = f"{opened(label)} before assignment is missing for {shares_in_words(missing, rows, study)}"
    if not missing.any():
        sentence = f"{opened(label)} before assignment is known for all {units}"
    if failed:
        sentence += (
            ". Before the lot nothing can differ by arm: look for a value that was recorded, or joined to the table, "
            "after the program had begun"
        )
    return Check(
        name="KPI before known alike",
        status="failed" if failed else "passed",
        sentence=f"{sentence}.",
        statistic=p if all(can_be_shown(count, study) for count in by_arm) else None,
        statistic_name="p-value",
        threshold=BEFORE_P,
        breaks=True,
    )


def kpi_varies(study: Study) -> Check | None:
    """Whether the KPI has more than one value in every arm: failed if one has not, and chance (p < .001) is no reason.

    The chance is that of drawing the one value for everybody in the arm, (or in all of its clusters) at the share
    that it has in all arms together. An arm without any spread says nothing of its own noise. None where nobody drew
    lots.
    """
    if study.program.design.kind != "randomised":
        return None
    code, frame, kpi = arm_column(study), study.frame, study.program.kpi
    spread = frame.groupby(frame[code])["outcome"].agg(["min", "max"])
    constant = spread.loc[spread["min"] == spread["max"], "min"].to_dict()
    chances = {arm: _chance_of_one_value(study, value, arm) for arm, value in constant.items()}
    p = min(chances.values(), default=1.0)
    failed = p < CONSTANT_P
    sentence = f"{opened(kpi.label)} varies in every arm"
    if chances:
        worst = min(chances, key=lambda arm: chances[arm])
        value = math.exp(constant[worst]) if kpi.scale == "log" else constant[worst]
        unit = "percent" if kpi.value_type == "binary" else kpi.unit
        sentence = f"{opened(kpi.label)} is {value:g} {unit} for everybody in {the(arm_names(study)[worst])}"
        sentence += (
            ", which chance does not explain. Look for a KPI that was recorded only in the other arm, and for missing "
            "values that were written as 0"
            if failed
            else ", which chance allows; the interval has the noise of the other arms only"
        )
    return Check(
        name="KPI varies in every arm",
        status="failed" if failed else "passed",
        sentence=f"{sentence}.",
        statistic=p,
        statistic_name="chance of one value throughout",
        threshold=CONSTANT_P,
        breaks=True,
    )


def _earlier(first: pd.Series, then: pd.Series) -> pd.Series:
    """Where ``first`` lies before ``then``, by day if either has days only; never where one is missing."""
    if any((times.dropna().dt.normalize() == times.dropna()).all() for times in (first, then)):
        first, then = first.dt.normalize(), then.dt.normalize()
    return first < then


def _outside_by_lot(counts: pd.DataFrame, seed: int) -> float:
    """People outside their cluster's most frequent arm if each had been assigned singly: mean of 20 draws."""
    rng, shares = np.random.default_rng(seed), counts.sum().to_numpy() / counts.to_numpy().sum()
    sizes = counts.sum(axis=1).to_numpy()
    made = rng.multinomial(sizes, shares, size=(20, len(sizes)))
    return float((sizes - made.max(axis=2)).sum(axis=1).mean())


def _chance_of_one_value(study: Study, value: float, arm: object) -> float:
    same = study.frame["outcome"] == value
    of_arm = study.frame[arm_column(study)] == arm
    if assigned_by_cluster(study):
        same, of_arm = (flag.groupby(study.frame["cluster"]).min() for flag in (same, of_arm))
    return float(same.mean() ** of_arm.sum())
