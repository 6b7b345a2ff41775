"""Is the comparison fair? Worlds in which each doubt is true, and in which it is not."""

import dataclasses
import datetime as dt
import math

import numpy as np
import pandas as pd
import pytest

from ldlab import checks, did
from ldlab.did.placebos import Placebo, last_before_start, placebo_group, placebo_kpis, spillover
from tests.studies import make_study

MONTE_CARLO = 3  # standard errors of a simulated share


def world(rng, *, units=80, periods=8, starts=(5,), share=0.5, noise=1.0, effect=0.0, dip=0.0, length=1):
    """A panel with lasting unit levels; ``dip`` is added in the ``length`` periods before a unit's start."""
    trained = np.arange(units) < units * share
    first = np.where(trained, np.resize(starts, units), np.nan)
    unit, period = (g.ravel() for g in np.meshgrid(np.arange(units), np.arange(periods), indexing="ij"))
    since = period - first[unit]
    level = rng.normal(size=units)[unit] + np.sin(period)
    outcome = level + noise * rng.normal(size=len(unit)) + effect * (since >= 0)
    outcome += dip * ((since >= -length) & (since < 0))
    return pd.DataFrame({"unit": unit, "period": period, "start": first[unit], "outcome": outcome})


def study_of(frame, design="two_group_before_after", *, negative=(), **columns):
    """The study of a frame; ``columns`` name optional roles, ``negative`` the placebo KPIs."""
    asked = {"kind": design} if isinstance(design, str) else dict(design)
    controls = [{"column": name, "label": name, "kind": "outcome"} for name in negative]
    return make_study(frame, {**asked, "columns": columns, "negative_controls": controls}, covariates=())


def share_of_alarms(make, runs, seed):
    rng = np.random.default_rng(seed)
    return np.mean([make(rng).status == "failed" for _ in range(runs)])


def nominal(runs):
    return 0.05 + MONTE_CARLO * math.sqrt(0.05 * 0.95 / runs)


# Leads: what a drift that goes unseen would add.


@pytest.mark.parametrize(
    ("design", "estimator", "distance"),
    [("two_group_before_after", did.two_way_fixed_effects, 4.0), ("staggered", did.lead_estimate, 2.0)],
)
def test_leads_say_what_an_unseen_drift_would_add(design, estimator, distance):
    # Starts at 5 of 0..7: trained at 0 1 2 (mean 1), before at -5..-1 (mean -3, last -1).
    frame = world(np.random.default_rng(1))
    study = study_of(frame, design)
    check = checks.leads(did.event_study(study), study)
    words = check.power.split()
    slope, added = float(words[4]), float(words[words.index("add") + 1])
    assert added == pytest.approx(distance * slope, rel=0.06)  # both are rounded to two digits
    drifting = frame.assign(outcome=frame["period"] * frame["start"].notna() + 1e-6 * frame["outcome"])
    assert estimator(study_of(drifting, design)).value == pytest.approx(distance, abs=1e-3)


def test_leads_warn_where_the_unseen_drift_is_worth_having():
    rng = np.random.default_rng(2)
    noisy, quiet = (study_of(world(rng, noise=noise)) for noise in (2.0, 0.02))
    warned, plain = (checks.leads(did.event_study(study), study) for study in (noisy, quiet))
    assert [warned.status, plain.status] == ["passed", "passed"]
    assert "no less than the smallest effect worth having (0.50 minutes)" in warned.sentence
    assert "worth having" not in plain.sentence


def test_leads_of_group_time_effects_and_of_agreed_anticipation():
    frame = world(np.random.default_rng(3), starts=(4, 6), dip=3.0)
    design = {"kind": "staggered"}
    blind = study_of(frame, design)
    agreed = study_of(frame, {**design, "anticipation": 1})
    seen, left_out = (checks.leads(did.group_time(study).by_event, study) for study in (blind, agreed))
    assert [seen.status, left_out.status] == ["failed", "passed"]
    assert "compared with the last before any anticipation" in left_out.sentence


# Placebo KPIs.


def kpis_of(rng, moved=0.0):
    frame = world(rng)
    frame["negative: calls"] = (
        40 + 7 * rng.normal(size=len(frame)) + 7 * moved * (frame["period"] >= frame["start"])
    )
    study = study_of(frame, negative=["calls"])
    return checks.placebo_kpis(study, placebo_kpis(study))[0]


def test_placebo_kpi():
    moved = kpis_of(np.random.default_rng(4), moved=1.0)
    assert (moved.name, moved.status, moved.needed) == ("placebo KPI: calls", "failed", True)
    assert "standard deviations" in moved.sentence
    assert "What moved it may have moved the KPI too." in moved.sentence
    still = kpis_of(np.random.default_rng(4))
    assert still.status == "passed"
    assert "of 0." in still.power


def test_placebo_kpi_false_alarms():
    assert share_of_alarms(kpis_of, 40, 5) <= nominal(40)


def test_placebo_kpi_is_the_leading_estimate_of_that_column():
    # In standard deviations of untrained rows, whatever the KPI's own scale.
    frame = world(np.random.default_rng(6))
    frame["negative: calls"] = 10 * frame["outcome"] + 3
    study = study_of(frame, negative=["calls"])
    found, spread = placebo_kpis(study)[0].estimate, frame.loc[study.frame["treated"] == 0, "outcome"].std()
    assert found.value == pytest.approx(did.lead_estimate(study).value / spread)
    assert (found.estimand, found.unit, found.kpi) == ("placebo", "standard deviations", "calls")


def test_placebo_kpi_without_one_or_without_variation():
    study = study_of(world(np.random.default_rng(7)))
    (check,) = checks.placebo_kpis(study, placebo_kpis(study))
    assert (check.status, check.needed) == ("not_run", False)
    assert "design.negative_controls" in check.sentence
    study = study_of(study.frame.assign(**{"negative: calls": 1.0}), negative=["calls"])
    assert "does not vary" in checks.placebo_kpis(study, placebo_kpis(study))[0].sentence


# Placebo group.


def group_of(rng, moved=0.0, starts=(4, 5, 6), share=0.4):
    frame = world(rng, units=100, starts=starts, share=share)
    frame["placebo_group"] = (frame["unit"] % 2).where(frame["start"].isna())
    frame["outcome"] += moved * (frame["placebo_group"] == 1) * (frame["period"] >= 5)
    study = study_of(frame, "staggered", placebo_group="placebo_group")
    return study, checks.placebo_group(study, placebo_group(study))


def test_placebo_group():
    _, moved = group_of(np.random.default_rng(28), moved=1.5)
    _, still = group_of(np.random.default_rng(28))
    assert [(c.name, c.status, c.needed) for c in (moved, still)] == [
        ("placebo group", "failed", True), ("placebo group", "passed", True),
    ]  # fmt: skip
    assert "may be that cause" in moved.sentence


def test_placebo_group_starts_at_the_median_start():
    # By hand: nothing but a step of 2 from period 5 on, the median of starts at 4, 5 and 6.
    study, _ = group_of(np.random.default_rng(9))
    step = 2.0 * (study.frame["placebo_group"] == 1) * (study.frame["period"] >= 5)
    quiet = study.frame.assign(outcome=step + 1e-6 * study.frame["outcome"])
    found = placebo_group(study_of(quiet, "staggered", placebo_group="placebo_group")).estimate
    assert found.value == pytest.approx(2.0, abs=1e-3)
    assert (found.n["treated"], found.n["comparison"]) == (30, 30)


def test_placebo_group_false_alarms():
    assert share_of_alarms(lambda rng: group_of(rng)[1], 30, 10) <= nominal(30)


def test_placebo_group_not_run():
    study = study_of(world(np.random.default_rng(11)))
    check = checks.placebo_group(study, placebo_group(study))
    assert (check.status, check.needed) == ("not_run", False)
    assert "design.columns.placebo_group" in check.sentence
    everyone, check = group_of(np.random.default_rng(11), share=1.0)
    assert everyone.has_comparison
    assert "Everyone was trained in the end" in check.sentence
    few = study.frame.assign(placebo_group=(study.frame["unit"] == 79).astype(float))
    check = placebo_group(study_of(few, placebo_group="placebo_group"))
    assert "Fewer than 10 agents" in check.reason


# Spillover.


def teams_of(rng, spill=0.0, *, mixed=10, teams=20, start=4, periods=8, noise=1.0):
    """Teams of six: in ``mixed`` of them three are trained; ``spill`` is what their teammates get."""
    unit, period = (g.ravel() for g in np.meshgrid(np.arange(6 * teams), np.arange(periods), indexing="ij"))
    team = unit // 6
    first = np.where((team < mixed) & (unit % 6 < 3), start + team % 2, np.nan)
    exposed = (team < mixed) & np.isnan(first) & (period >= start + team % 2)
    outcome = noise * rng.normal(size=len(unit)) + np.nan_to_num(period - first >= 0) + spill * exposed
    frame = pd.DataFrame({"unit": unit, "period": period, "start": first, "outcome": outcome, "team": team})
    return study_of(frame, "staggered", team="team")


def test_spillover():
    spilt, none = (teams_of(np.random.default_rng(12), spill) for spill in (1.0, 0.0))
    lead = did.lead_estimate(spilt)
    failed, passed = checks.spillover(spilt, spillover(spilt), lead), checks.spillover(none, spillover(none))
    assert [(c.name, c.status, c.needed) for c in (failed, passed)] == [
        ("spillover", "failed", False), ("spillover", "passed", False),
    ]  # fmt: skip
    assert "the estimate is probably too small" in failed.sentence


def test_spillover_by_hand():
    # Teammates are exposed from their own team's start on; nothing else moves.
    study = teams_of(np.random.default_rng(13), spill=0.7, noise=1e-6)
    found = spillover(study).estimate
    assert found.value == pytest.approx(0.7, abs=1e-4)
    assert (found.n["treated"], found.n["comparison"]) == (30, 60)


def test_spillover_false_alarms():
    def check(rng):
        study = teams_of(rng)
        return checks.spillover(study, spillover(study))

    assert share_of_alarms(check, 30, 14) <= nominal(30)


def test_spillover_not_run():
    rng = np.random.default_rng(15)
    no_team = study_of(world(rng))
    assert "design.columns.team" in spillover(no_team).reason
    assert "All untrained agents had trained teammates" in spillover(teams_of(rng, mixed=20)).reason
    whole = teams_of(rng).frame
    whole = whole[whole["start"].notna() | (whole["team"] >= 10)]
    alone = study_of(whole, "staggered", team="team")
    assert "No untrained agents were in a team with a trained one" in spillover(alone).reason
    check = checks.spillover(alone, spillover(alone))
    assert (check.status, check.needed) == ("not_run", False)


# The last period before training.


@pytest.mark.parametrize("design", ["two_group_before_after", "staggered"])
@pytest.mark.parametrize(("size", "length"), [(-2.0, 1), (-2.0, 2), (2.0, 1)])
def test_dip_and_anticipation(design, size, length):
    # More is better: a dip flatters the estimate, anticipation hides part of it.
    starts = (5,) if design == "two_group_before_after" else (5, 6)
    frame = world(np.random.default_rng(16), units=120, starts=starts, effect=3.0, dip=size, length=length)
    study = study_of(frame, design)
    before = last_before_start(study)
    dip, anticipation = checks.nomination_dip(study, before), checks.anticipation(study, before)
    statuses = ["failed", "passed"] if size < 0 else ["passed", "failed"]
    assert [dip.status, anticipation.status] == statuses
    assert before.last.value == pytest.approx(size, abs=4 * before.last.se)
    assert before.length == length
    assert before.without.value == pytest.approx(3.0, abs=4 * before.without.se)
    assert before.lead.value * size < before.without.value * size  # a dip of the base adds to the estimate
    failed = dip if size < 0 else anticipation
    assert failed.needed == (abs(before.lead.value - before.without.value) >= 0.5)
    numbers = [before.lead.format(e.value, sign=True) for e in (before.without, before.lead)]
    assert f"the estimate is {numbers[0]} instead of {numbers[1]} minutes" in failed.sentence


def test_dip_is_in_the_kpis_bad_direction():
    frame = world(np.random.default_rng(17), units=120, dip=-2.0)
    less = make_study(frame, "two_group_before_after", covariates=(), kpi={"direction": "decrease"})
    before = last_before_start(less)
    assert checks.nomination_dip(less, before).status == "passed"
    assert checks.anticipation(less, before).status == "failed"


def test_dip_by_hand():
    # Untrained rows only, last period against earlier ones: trained 1 1 1 -2 | 9 9, comparison 5 throughout.
    rows = [
        {
            "unit": u,
            "period": t,
            "start": 4.0 if u < 20 else np.nan,
            "outcome": [1, 1, 1, -2, 9, 9][t] if u < 20 else 5,
        }
        for u in range(40)
        for t in range(6)
    ]
    frame = pd.DataFrame(rows)
    frame["outcome"] += 1e-3 * np.random.default_rng(18).normal(size=len(frame))
    study = study_of(frame)
    before = last_before_start(study)
    assert before.last.value == pytest.approx(-3, abs=0.01)
    assert before.lead.value == pytest.approx(9 - 1 / 4, abs=0.01)
    assert before.without.value == pytest.approx(8, abs=0.01)


def test_agreed_anticipation_is_no_dip():
    frame = world(np.random.default_rng(19), dip=3.0)
    study = study_of(frame, {"kind": "two_group_before_after", "anticipation": 1})
    before = last_before_start(study)
    assert checks.anticipation(study, before).status == "passed"
    assert before.lead is None


def test_dip_false_alarms():
    def check(rng):
        study = study_of(world(rng))
        before = last_before_start(study)
        return min(
            checks.nomination_dip(study, before),
            checks.anticipation(study, before),
            key=lambda c: c.statistic,
        )

    runs = 60  # two one-sided tests
    assert share_of_alarms(check, runs, 20) <= 0.1 + MONTE_CARLO * math.sqrt(0.1 * 0.9 / runs)


def test_dip_not_run():
    rng = np.random.default_rng(21)
    early = last_before_start(study_of(world(rng, starts=(1,))))
    assert "No cohort has two weeks before training" in early.reason
    alone = make_study(world(rng, share=1.0), "before_after", covariates=())
    assert "no comparison" in last_before_start(alone).reason
    frame = world(rng)
    few = study_of(frame.assign(cluster=np.where(frame["unit"] < 40, frame["unit"] % 2, frame["unit"])))
    check = checks.nomination_dip(few, last_before_start(few))
    assert (check.status, check.needed) == ("not_run", False)
    assert "Only 2 clusters" in check.sentence


# Other changes.


def changes_of(*changes, design="two_group_before_after", dates=False):
    asked = {
        "kind": design,
        "other_changes": [dict(zip(("what", "when", "who"), c, strict=True)) for c in changes],
    }
    share = 1.0 if design == "before_after" else 0.5
    study = make_study(world(np.random.default_rng(22), share=share), asked, covariates=())
    if not dates:
        return checks.other_changes(study)
    mondays = tuple(dt.date(2026, 1, 5) + dt.timedelta(weeks=k) for k in range(8))
    return checks.other_changes(dataclasses.replace(study, periods=mondays))


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (("a bonus", "2026-02-11", "trained only"), "failed", "cannot be told from training's"),
        (
            ("a bonus", "2026-03-01", "trained only"),
            "failed",
            "touched trained agents only",
        ),  # last week, Sunday
        (("a bonus", "2026-03-02", "trained only"), "passed", "lies outside the weeks analysed"),
        (("a new form", "2026-02-11", "everyone"), "passed", "the comparison takes it out"),
        (("a new form", "in spring", "Everyone"), "passed", "the comparison takes it out"),
        (("a bonus", "in spring", "trained only"), "not_run", "no date that can be placed"),
        (("a new boss", "2026-02-11", "Lisbon"), "not_run", "which of them were trained is not on record"),
    ],
)
def test_other_changes(change, status, words):
    check = changes_of(change, dates=True)
    assert (check.status, check.needed) == (status, status == "failed")
    assert words in check.sentence
    assert check.sentence.startswith(change[0].capitalize()[:1])


def test_other_changes_by_numbered_period_several_and_none():
    assert changes_of(("a bonus", "7", "trained only")).status == "failed"
    assert changes_of(("a bonus", "8", "trained only")).status == "passed"
    assert changes_of(("a bonus", "2026-02-11", "trained only")).status == "not_run"
    both = changes_of(("a form", "6", "everyone"), ("a bonus", "6", "comparison only"))
    assert both.status == "failed"
    assert "A form (6) touched everyone" in both.sentence
    assert "; a bonus (6) touched comparison agents only" in both.sentence
    assert changes_of(("a form", "6", "everyone"), design="before_after").status == "failed"
    none = changes_of()
    assert (none.status, none.needed) == ("not_run", False)


# Estimators beside the one that leads.


def test_robust_to_staggering_takes_the_one_that_differs_most():
    study = study_of(world(np.random.default_rng(23), starts=(4, 6)), "staggered")
    lead = did.lead_estimate(study)

    def check(*values):
        others = [
            v if v is None else lead.model_copy(update={"value": v, "method": f"m{v} (x), y"}) for v in values
        ]
        return checks.robust_to_staggering(study, lead.model_copy(update={"value": 2.0}), *others)

    assert [check(*values).status for values in ((1.8, 2.2), (1.8, None), (1.8, 2.6), (1.8, -0.1))] == [
        "passed", "passed", "failed", "failed",
    ]  # fmt: skip
    assert (
        "The less alike of two others (m2.6) gives a result that differs by more" in check(1.8, 2.6).sentence
    )
    assert check(None, None).status == "not_run"
    real = checks.robust_to_staggering(study, lead, did.imputation(study))
    assert real.status in ("passed", "failed")
    assert "imputation from untreated cells" in real.sentence


def test_a_placebo_that_was_not_run_has_its_reason():
    study = study_of(world(np.random.default_rng(24)))
    tried = Placebo(label="x", reason="Because.")
    for judged in (checks.placebo_group, checks.spillover):
        assert (judged(study, tried).status, judged(study, tried).sentence) == ("not_run", "Because.")
