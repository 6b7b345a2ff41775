"""Group-time effects: a table solved by hand, R's published numbers, another library, simulated truth, refusals."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from ldlab import did, load_program, load_study
from ldlab.did.atoms import Atoms, _pools
from ldlab.did.events import simultaneous_critical
from ldlab.did.group_cells import fit_cells
from ldlab.plots import event_study
from ldlab.plots.cohorts import cohort_effects
from ldlab.program import LdlabError
from tests.studies import DATA, make_study
from tests.test_did import company, michigan, panel
from tests.worlds_did import KINDS, truth_of, world

PARAMS = DATA.parent / "params"

# Start 1: 2 7 9; start 2: 3 5 10; never: 1 2 4. Against the last week before training, never-trained controls:
# week 1 of start 1: 5 - 1 = 4; week 2: 7 - 3 = 4. Start 2, week 2: 5 - 2 = 3; week 0: (3 - 5) - (1 - 2) = -1.
STAGGERED = [[2, 7, 9], [3, 5, 10], [1, 2, 4]]


def by_hand(sizes=(5, 10, 10), spread=0.5, **columns):
    """The table above, each unit as often as ``sizes`` says, half of them ``spread`` higher in the last week."""
    outcomes, starts = [], []
    for values, start, size in zip(STAGGERED, (1, 2, None), sizes, strict=True):
        for i in range(size):
            last = values[2] + spread * (1 if i % 2 else -1) * (i < size - size % 2)
            outcomes.append([values[0], values[1] + spread * (i % 2 - 0.5) * (i < size - size % 2), last])
            starts.append(start)
    return panel(outcomes, starts, **columns)


def test_averages_by_hand():
    # Sizes 5, 10, 10. Simple: (5 * 4 + 5 * 4 + 10 * 3) / 20; by cohort (5 * 4 + 10 * 3) / 15; by event time
    # (10 * 3 + 5 * 4) / 15 and 4; in week 1: 4, in week 2: 10/3.
    found = did.group_time(make_study(by_hand(), "staggered", minimum=5))
    assert found.overall.value == pytest.approx(3.5)
    assert found.group.value == pytest.approx(10 / 3)
    assert found.dynamic.value == pytest.approx((10 / 3 + 4) / 2)
    assert [e.value for e in found.by_event.estimates] == pytest.approx([-1, 10 / 3, 4])
    assert found.by_event.event_times == (-2, 0, 1)
    assert [(e.term, round(e.value, 9)) for e in found.by_cohort] == [
        ("trained from 1", 4),
        ("trained from 2", 3),
    ]
    assert [e.term for e in found.by_period] == ["week 1", "week 2"]
    assert [e.value for e in found.by_period] == pytest.approx([4, 10 / 3])
    assert (found.controls, found.overall.term) == ("never trained", "")
    assert found.table().loc["1"].dropna().to_dict() == {0: 4, 1: 4}
    assert found.overall.n == {"treated": 15, "comparison": 10, "clusters": None, "observations": 75}


def test_not_yet_trained_controls_by_hand():
    # Week 1 of start 1: the ten of start 2 rise by 2, the ten never trained by 1: 5 - 1.5. The rest as before.
    found = did.group_time(make_study(by_hand(), "staggered", minimum=5), controls="not_yet")
    assert [e.value for e in found.by_event.estimates] == pytest.approx([-1, (5 * 3.5 + 10 * 3) / 15, 4])
    assert "not-yet-trained controls" in found.overall.method
    assert found.why_controls == "as asked"


def test_errors_by_hand():
    # Changes 3 and 5 of five units each, 0 and 2 of five each: deviations of 1, 10 / 10**2 + 10 / 10**2.
    frame = panel([[1, 4], [2, 7], [5, 5], [3, 5]] * 5, [1, 1, None, None] * 5)
    alone = did.group_time(make_study(frame, "two_group_before_after"))
    assert (alone.overall.value, alone.overall.df) == (pytest.approx(3), 19)
    assert alone.overall.se == pytest.approx(math.sqrt(0.2))
    # Two clusters of the trained, 3 3 3 3 3 and 5 5 5 5 5, and so with the others: sums of deviations of 5 / 10 in
    # four clusters, and 4 / (4 - 1).
    cluster = np.tile(list("ABCD"), 5)
    together = did.group_time(
        make_study(
            panel([[1, 4], [2, 7], [5, 5], [3, 5]] * 5, [1, 1, None, None] * 5, cluster=cluster), "staggered"
        )
    )
    assert together.overall.se == pytest.approx(math.sqrt(4 / 3 * 4 * 0.25))
    assert (together.overall.df, together.overall.se_kind) == (3, "cluster by cluster")


def test_one_start_for_all_is_the_two_group_difference():
    # Two periods: the same as the regression; more: against the last before, as the event study.
    frame = company(np.random.default_rng(2), units=60, effect=(1.0, 2.0))
    study = make_study(frame, "two_group_before_after")
    found, events = did.group_time(study), did.event_study(study)
    assert [e.value for e in found.by_event.estimates] == pytest.approx([e.value for e in events.estimates])
    assert found.by_event.event_times == events.event_times
    two = make_study(
        frame[frame["period"].isin([2, 3])].assign(
            period=lambda f: f["period"] - 2, start=lambda f: f["start"] - 2
        ),
        "staggered",
    )
    assert did.group_time(two).overall.value == pytest.approx(did.two_way_fixed_effects(two).value)


def test_michigan_grants_as_published():
    study = load_study(load_program(PARAMS / "michigan.yaml"))
    never, not_yet = did.group_time(study), did.group_time(study, controls="not_yet")
    assert f"{never.overall.value:.4f} {never.overall.se:.4f}" == "-0.3450 0.1952"
    assert f"{not_yet.overall.value:.4f} {not_yet.overall.se:.4f}" == "-0.3205 0.1874"
    # The published lead of -.2167 is the change from 1987 to 1988; against 1988 it is 1987 that is .2167 higher.
    assert [f"{e.value:.4f} {e.se:.4f}" for e in never.by_event.estimates] == [
        "0.2167 0.1439", "-0.2691 0.1444", "-0.4610 0.2857",
    ]  # fmt: skip
    assert f"{not_yet.by_event.estimates[1].value:.4f}" == "-0.2285"
    assert [e.term for e in never.by_cohort] == ["trained from 1988", "trained from 1989"]
    assert never.why_controls == "25 of 54 firms were never trained"
    assert did.lead_estimate(study) == never.overall


def test_michigan_hours_of_training():
    # 124 firms report them in all years. The grant bought training in its year only: 33.28 hours, then -0.18.
    raw = pd.read_csv(DATA / "michigan_grants.csv").dropna(subset=["hours_per_employee"])
    raw = raw[raw.groupby("firm")["year"].transform("size") == 3]
    start = (raw["first_grant"] - 1987).where(raw["first_grant"] < 1990)
    frame = pd.DataFrame({"unit": raw["firm"], "period": raw["year"] - 1987, "start": start})
    study = make_study(frame.assign(outcome=raw["hours_per_employee"]), "staggered")
    assert [f"{e.value:.2f}" for e in did.group_time(study).by_event.estimates] == ["-3.53", "33.28", "-0.18"]


def mpdta_program(folder: Path, source: str) -> Path:
    """The reference panel of R's did as a researcher would describe it."""
    made = yaml.safe_load((PARAMS / "michigan.yaml").read_text())
    made["kpi"] |= {"column": "lemp", "label": "log teen employment", "unit": "log points", "scale": "as is",
                    "direction": "increase"}  # fmt: skip
    for name in ("smallest_effect_worth_having", "target"):
        made["kpi"][name] = {"value": 0.01, "unit": "log points"}
    made["design"] |= {"unit": "county", "unit_plural": "counties", "population": "counties",
                       "columns": {"unit": "countyreal", "period": "year", "start": "first_treat"}}  # fmt: skip
    made["agreement"]["observation_window"] = {"first": 2003, "last": 2007}
    made["data"] = {"source": source}
    del made["objective"]["id"]
    path = folder / "params" / "mpdta.yaml"
    path.parent.mkdir()
    (folder / "notebooks").mkdir()
    path.write_text(yaml.safe_dump(made, sort_keys=False))
    return path


@pytest.mark.skipif(
    "LDLAB_MPDTA" not in os.environ, reason="LDLAB_MPDTA names no copy of R's mpdta (GPL) as CSV"
)
def test_published_reference_panel(tmp_path: Path):
    # Callaway & Sant'Anna's did, aggte(att_gt(...)) with analytic errors.
    (tmp_path / "mpdta.csv").write_bytes(Path(os.environ["LDLAB_MPDTA"]).read_bytes())
    found = did.group_time(load_study(load_program(mpdta_program(tmp_path, "mpdta.csv"))))
    assert [f"{e.value:.7f}" for e in found.estimates] == ["-0.0399513", "-0.0310183", "-0.0772398"]
    errors = (0.0120340, 0.0124461, 0.0199650)
    assert [e.se for e in found.estimates] == pytest.approx(errors, abs=5e-8)
    assert found.overall.n["treated"] == 191


def oracle(frame: pd.DataFrame, kind: str, **options: Any) -> Any:
    """moderndid, which copies R's did."""
    moderndid = pytest.importorskip("moderndid")
    data = frame.assign(period=frame["period"] + 1, start=frame["start"].fillna(-1) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells = moderndid.att_gt(
            data=data, yname="outcome", tname="period", idname="unit", gname="start", boot=False, cband=False,
            base_period="universal", **options,
        )  # fmt: skip
        return moderndid.aggte(cells, type=kind)


@pytest.mark.parametrize(("controls", "name"), [("never", "nevertreated"), ("not_yet", "notyettreated")])
def test_another_library_finds_the_same(controls, name):
    frame = company(np.random.default_rng(4), units=90, starts=(2, 3, 4), effect=(1.0, 2.0)).drop(
        columns="cluster"
    )
    found = did.group_time(make_study(frame, "staggered"), controls=controls)
    for kind, estimate in zip(("simple", "group", "dynamic"), found.estimates, strict=True):
        theirs = oracle(frame, kind, control_group=name)
        assert (estimate.value, estimate.se) == pytest.approx((theirs.overall_att, theirs.overall_se))
    for kind, ours in (("calendar", found.by_period), ("group", found.by_cohort)):
        theirs = oracle(frame, kind, control_group=name)
        assert [e.value for e in ours] == pytest.approx(theirs.att_by_event)
        assert [e.se for e in ours] == pytest.approx(theirs.se_by_event)
    theirs = oracle(frame, "dynamic", control_group=name)
    kept = theirs.event_times != -1
    assert found.by_event.effects == pytest.approx(theirs.att_by_event[kept])
    assert [e.se for e in found.by_event.estimates] == pytest.approx(theirs.se_by_event[kept])


def test_another_library_finds_the_same_doubly_robust():
    rng = np.random.default_rng(5)
    frame = company(rng, units=120, starts=(2, 4)).drop(columns="cluster")
    frame["age"] = (
        (rng.normal(size=120) + 0.5 * frame.groupby("unit")["start"].first().notna())
        .loc[frame["unit"]]
        .to_numpy()
    )
    frame["outcome"] += 0.5 * frame["age"] * frame["period"]
    found, plain = (
        did.group_time(make_study(frame, "staggered", covariates=names)) for names in (("age",), ())
    )
    theirs = oracle(frame, "simple", xformla="~ age")
    # R's DRDID scales the comparison's weights to 1, diff-diff does not: the fourth digit differs.
    assert found.overall.value == pytest.approx(theirs.overall_att, abs=0.001 * theirs.overall_se)
    assert found.overall.se == pytest.approx(theirs.overall_se, rel=0.001)
    assert found.adjusted == "doubly robust: age"
    assert found.overall.method.endswith("never-trained controls, doubly robust")
    assert abs(found.overall.value) < 3 * found.overall.se < abs(plain.overall.value) * 3
    assert plain.adjusted.startswith("nothing")


def test_covariates_are_used_as_far_as_cohorts_are_large_and_alike():
    rng = np.random.default_rng(6)
    frame = company(rng, units=80, starts=(2, 4), gaps=0.05).drop(columns="cluster")
    many = {f"x{i}": rng.normal(size=80) for i in range(3)}
    wide = frame.assign(**{name: values[frame["unit"]] for name, values in many.items()})
    found = did.group_time(make_study(wide, "staggered"))
    assert found.adjusted == (
        "regression-adjusted: x0, x1, x2; not doubly robust, because a cohort has fewer than 10 agents for each covariate"
    )
    apart = frame.assign(
        tenure=np.where(frame["start"].notna(), 5.0, 0.0) + rng.normal(size=80)[frame["unit"]]
    )
    found = did.group_time(make_study(apart, "staggered"))
    assert found.adjusted.endswith(
        "some could hardly have been trained, or hardly not, going by the covariates"
    )
    crowd = frame.assign(**{f"x{i}": rng.normal(size=80)[frame["unit"]] for i in range(5)})
    assert did.group_time(make_study(crowd, "staggered")).adjusted.startswith("nothing: x0")
    # What was measured after training is never adjusted for; who lacks a value is left out, and counted.
    late = wide.assign(x0=wide["x0"].where(wide["unit"] > 0), x1=0.0, x2=0.0)
    late["x0"] += 100 * (late["period"] >= late["start"])
    found = did.group_time(make_study(late, "staggered"))
    assert found.left_out[0] == "fewer than 10 agents without all covariates before training"
    before = did.group_time(make_study(wide[wide["unit"] > 0].assign(x1=0.0, x2=0.0), "staggered"))
    assert found.overall.value == pytest.approx(before.overall.value)


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_growing_and_cohort_specific_effects_are_found(gaps):
    rng = np.random.default_rng(7)
    for kind in KINDS:
        estimates = [
            did.group_time(make_study(world(kind, gaps, rng).frame, "staggered")).overall for _ in range(8)
        ]
        error = np.mean([e.value for e in estimates]) - truth_of(kind)
        assert abs(error) < 3 * np.mean([e.se for e in estimates]) / math.sqrt(8)


def test_two_way_fails_where_cohorts_differ_and_group_time_does_not():
    made = world("cohort", 0.0, np.random.default_rng(8))
    study = make_study(made.frame, "staggered")
    two_way, found = did.two_way_fixed_effects(study), did.group_time(study)
    assert abs(found.overall.value - made.truth) < 2 * found.overall.se
    assert two_way.high < made.truth


def test_intervals_and_bands_hold_what_they_say():
    # 90% each: the overall effect in its interval; all effects by event time together in their bands.
    rng, runs = np.random.default_rng(9), 80
    held = np.zeros((runs, 2))
    for run in range(runs):
        frame = company(rng, units=80, periods=6, starts=(2, 4), cluster_size=2)
        found = did.group_time(make_study(frame, "staggered", level=0.9, minimum=5))
        low, high = np.array(found.by_event.band_low), np.array(found.by_event.band_high)
        held[run] = found.overall.low < 0 < found.overall.high, ((low < 0) & (high > 0)).all()
    assert np.abs(held.mean(axis=0) - 0.9).max() < 3 * math.sqrt(0.9 * 0.1 / runs)


def test_bands_against_closed_forms():
    # One effect: t. Independent ones: the level's m-th root. Perfectly tied ones: again one.
    t = stats.t.ppf(0.95, 20)
    assert simultaneous_critical(np.eye(1) * 4, 20, 0.9, 1) == pytest.approx(t, abs=0.03)
    normal = stats.norm.ppf((1 + 0.9 ** (1 / 6)) / 2)
    assert simultaneous_critical(np.diag(np.arange(1.0, 7)), 1e6, 0.9, 1) == pytest.approx(normal, abs=0.03)
    assert simultaneous_critical(np.ones((5, 5)), 20, 0.9, 1) == pytest.approx(t, abs=0.03)


def test_gaps_leave_each_unit_with_itself():
    # Trained units whose level is low leave after training. Means of who is there would call that an effect.
    rng = np.random.default_rng(10)
    frame = company(rng, units=600, periods=6, starts=(2, 3), effect=(1.0,)).drop(columns="cluster")
    level = pd.Series(3 * rng.normal(size=600)).loc[frame["unit"]].to_numpy()
    frame["outcome"] += level
    left = frame[~((level < -1) & (frame["period"] > frame["start"]))]
    found = did.group_time(make_study(left, "staggered")).overall
    assert abs(found.value - 1) < 3 * found.se < 0.6
    assert found.term == ""  # nobody who is seen trained was unseen before
    of_those_there = (
        left.groupby(["arm" if "arm" in left else left["start"].notna(), "period"])["outcome"]
        .mean()
        .unstack()
    )
    assert (of_those_there.loc[True, 5] - of_those_there.loc[True, 1]) - (
        of_those_there.loc[False, 5] - of_those_there.loc[False, 1]
    ) > 1.5


def test_those_not_seen_before_training_are_said():
    frame = company(np.random.default_rng(11), units=100, periods=5, starts=(2,))
    frame = frame[~((frame["unit"] % 4 == 0) & (frame["period"] == 1))]
    found = did.group_time(make_study(frame, "staggered")).overall
    trained = frame[frame["period"] >= frame["start"]]
    share = 100 * (trained["unit"] % 4 > 0).mean()
    assert found.term == f"{math.floor(share)}% of the trained weeks"


def test_no_effect_is_a_mere_permutation_of_units():
    frame = company(np.random.default_rng(12), units=60, starts=(2, 4))
    renamed = frame.assign(unit=(frame["unit"] * 7) % 61 + 1000).sample(frac=1, random_state=1)
    one, other = (did.group_time(make_study(rows, "staggered")) for rows in (frame, renamed))
    assert one.overall.value == pytest.approx(other.overall.value)
    assert one.by_event.critical == pytest.approx(other.by_event.critical)


def test_everyone_is_trained_in_the_end():
    rng = np.random.default_rng(13)
    outcome = rng.normal(size=(60, 8)) + np.where(np.arange(8) >= np.repeat([2, 4, 6], 20)[:, None], 2.0, 0.0)
    study = make_study(panel(outcome, np.repeat([2, 4, 6], 20)), "staggered")
    found = did.group_time(study)
    assert (found.controls, found.why_controls) == (
        "not yet trained",
        "in the end every one of the agents was trained",
    )
    # Weeks 2 to 5 of the first and 4 and 5 of the second: 20 * 4 + 20 * 2 of 20 * (6 + 4 + 2).
    assert found.overall.term == "50% of the trained weeks"
    assert abs(found.overall.value - 2) < 3 * found.overall.se
    imputed = did.imputation(study)
    assert abs(imputed.value - 2) < 3 * imputed.se
    assert imputed.term == "50% of the trained weeks"
    assert (
        did.placebo_start(make_study(panel(outcome, np.repeat([3, 5, 7], 20)), "staggered")).term
        == "1 week earlier"
    )


def test_anticipation_does_not_count_as_before():
    rng = np.random.default_rng(14)
    event = np.arange(9) - np.repeat([4, 6, np.nan], [40, 40, 60])[:, None]
    outcome = rng.normal(size=event.shape) + np.where(event >= 0, 1.0, np.where(event >= -2, 3.0, 0.0))
    frame = panel(outcome, np.repeat([4, 6, None], [40, 40, 60]))
    study = make_study(frame, {"kind": "staggered", "anticipation": 2})
    found = did.group_time(study)
    assert found.by_event.reference == -3
    assert found.by_event.lead_times == (-6, -5, -4)
    by_time = dict(zip(found.by_event.event_times, found.by_event.effects, strict=True))
    assert by_time[-1] == pytest.approx(3, abs=0.8)
    for estimate in (found.overall, did.imputation(study)):
        assert abs(estimate.value - 1) < 3 * estimate.se < 1
    events = did.event_study(study)
    assert (events.reference, -2 in events.event_times, -3 in events.event_times) == (-3, True, False)
    assert [e.value for e in did.effects_since_start(study)] == pytest.approx([1] * 5, abs=0.7)
    placebo = did.placebo_start(
        make_study(frame.assign(start=frame["start"] + 1), {"kind": "staggered", "anticipation": 3})
    )
    assert placebo.low < 0 < placebo.high
    without = did.group_time(make_study(frame, "staggered")).overall
    assert without.value < 0  # measured from the anticipation, training would seem to harm


def test_controls_are_chosen_by_numbers_and_said():
    rng = np.random.default_rng(15)

    def chosen(never, clusters=None, starts=(1, 2)):
        sizes = [100] * len(starts) + [never]
        start = np.repeat([*starts, None], sizes)
        cluster = (
            {}
            if clusters is None
            else {"cluster": np.r_[np.arange(100 * len(starts)), 1000 + np.arange(never) % clusters]}
        )
        return did.group_time(
            make_study(panel(rng.normal(size=(len(start), 4)), start, **cluster), "staggered")
        )

    assert chosen(40).why_controls == "40 of 240 agents were never trained"
    assert chosen(20).why_controls.startswith("only 20 of 220 agents")
    assert chosen(4).why_controls == "fewer than 10 agents were never trained"
    assert chosen(40, clusters=4).why_controls.startswith("only 4 clusters")
    assert chosen(40, clusters=5).controls == "never trained"
    assert chosen(10, clusters=2, starts=(1,)).controls == "never trained"  # there is nobody else
    with pytest.raises(LdlabError, match="controls='not_yet'"):
        did.group_time(
            make_study(panel(rng.normal(size=(44, 4)), [1] * 20 + [2] * 20 + [None] * 4), "staggered"),
            controls="never",
        )


def test_small_cohorts_are_shown_with_their_neighbours_and_cannot_be_subtracted():
    rng = np.random.default_rng(16)
    starts = np.repeat([2, 3, 4, 7, None], [4, 5, 6, 30, 40])
    outcome = rng.normal(size=(85, 9)) + np.where(
        np.arange(9) >= np.array(starts, dtype=float)[:, None], 1.0, 0.0
    )
    found = did.group_time(make_study(panel(outcome, starts), "staggered"))
    assert [e.term for e in found.by_cohort] == ["trained from 2 to 4", "trained from 7"]
    assert {cell.cohort for cell in found.cells} == {"2 to 4", "7"}
    # Five weeks on the pool still holds all fifteen, a week later 4 + 5: too few, and so left out there.
    assert max(found.by_event.event_times) == 4
    assert [e.term for e in found.by_period] == ["week 7", "week 8"]  # of the large cohort alone
    assert found.left_out == (
        "cohorts of fewer than 10 agents are shown together with those next to them",
        "averages by event time and cohort leave out weeks in which a cohort has fewer than 10 agents",
    )
    # What is left out, 9 + 4 unit-weeks of 148, belongs to nine units: too few for the overall effect either.
    assert found.overall.term == "91% of the trained weeks"
    assert not any(f'"{name}":' in found.model_dump_json() for name in ("units", "ids"))


def test_a_cohort_of_one_person_cannot_be_inferred():
    # Whatever happens to that person in weeks that the shown cells leave out changes no number at all.
    rng = np.random.default_rng(17)
    starts = np.repeat([1, 4, None], [1, 40, 40])
    outcome = rng.normal(size=(81, 7))
    changed = outcome.copy()
    changed[0, 4:] += 1000.0  # event times 3 to 5: only this person is seen there
    one, other = (did.group_time(make_study(panel(rows, starts), "staggered")) for rows in (outcome, changed))
    assert one.model_dump() == other.model_dump()
    assert [e.term for e in one.by_cohort] == ["trained from 1 to 4"]


def test_pools_of_cohorts():
    assert _pools(np.array([4, 5, 6, 30]), 10).tolist() == [0, 0, 0, 1]
    assert _pools(np.array([30, 4, 5]), 10).tolist() == [0, 0, 0]
    assert _pools(np.array([3, 3]), 10).tolist() == [0, 0]


def test_every_shown_cell_holds_the_minimum_group():
    rng = np.random.default_rng(18)
    starts = rng.choice([2, 3, 4, 5, 6, np.nan], 90, p=[0.1, 0.05, 0.05, 0.15, 0.25, 0.4])
    rows = make_study(panel(rng.normal(size=(90, 8)), starts), "staggered").frame
    cells, _ = fit_cells(rows, never_trained=False, anticipation=0)
    atoms = Atoms.of(cells, 10)
    sizes = pd.DataFrame({"pool": atoms.pool, "event": atoms.cells.event, "n": atoms.cells.trained})
    held = sizes.groupby(["pool", "event"])["n"].transform("sum")
    assert (held[atoms.shown] >= 10).all() and (held[~atoms.shown] < 10).all()
    assert (atoms.cells.controls >= 10).all()


def test_who_leads_is_agreed():
    frame = company(np.random.default_rng(19), starts=(1, 4))
    methods = {
        name: did.lead_estimate(
            make_study(frame, "staggered", agreement={"estimator": name} if name else {})
        ).method
        for name in (None, "group_time", "imputation", "two_way")
    }
    assert methods[None] == methods["group_time"]
    assert methods["group_time"].startswith(
        "group-time effects, simple average (Callaway and Sant'Anna 2021)"
    )
    assert methods["imputation"] == "imputation from untreated cells"
    assert methods["two_way"] == "two-way fixed effects"
    together = company(np.random.default_rng(19))
    for name in ("group_time", "imputation"):
        led = did.lead_estimate(make_study(together, "two_group_before_after", agreement={"estimator": name}))
        assert led.method.startswith(name.replace("_", "-")[:5])
    assert did.lead_estimate(make_study(together, "two_group_before_after")).method == "two-way fixed effects"
    few = make_study(
        frame[frame["cluster"] < 11], "staggered", agreement={"estimator": "imputation"}, minimum=30
    )
    with pytest.raises(LdlabError, match="Agree on group_time"):
        did.lead_estimate(few)


def test_refusals_say_what_to_do():
    rng = np.random.default_rng(20)

    def noise(starts, **columns):
        return panel(rng.normal(size=(len(starts), 4)), starts, **columns)

    def found(frame, **options):
        return did.group_time(make_study(frame, "staggered", **options))

    with pytest.raises(LdlabError, match="trained in the same week"):
        found(noise([2] * 30))
    with pytest.raises(LdlabError, match="period before training"):
        found(noise([0] * 20 + [None] * 20))
    with pytest.raises(LdlabError, match="two clusters"):
        found(noise([1] * 20 + [None] * 20, cluster=["A"] * 40))
    with pytest.raises(LdlabError, match="too few trained units"):
        found(noise([2] * 4 + [None] * 20))
    with pytest.raises(LdlabError, match="no variation"):
        found(noise([2] * 20 + [None] * 20).assign(outcome=1.0))
    with pytest.raises(LdlabError, match="'never' or 'not_yet'"):
        did.group_time(make_study(noise([2] * 20 + [None] * 20), "staggered"), controls="all")
    with pytest.raises(LdlabError, match="one row per unit"):
        did.group_time(make_study(pd.DataFrame({"arm": [0, 1], "outcome": [1.0, 2]})))
    always = found(noise([0] * 15 + [2] * 20 + [None] * 20))
    assert always.left_out == ("15 agents with no week before training",)
    assert did.group_time(make_study(noise([2] * 20), "before_after")) is None


def test_it_prints_and_leaves_the_frame_alone():
    study = michigan()
    before = study.frame.copy()
    found = did.group_time(study)
    pd.testing.assert_frame_equal(study.frame, before)
    assert "never trained: 25 of 54 agents" in str(found)
    assert found._repr_html_().count("<tr>") == 5
    assert list(found.by_event.table()) == ["term", "effect", "low", "high", "band low", "band high"]
    assert found == did.group_time(study)
    for e, low, high in zip(
        found.by_event.estimates, found.by_event.band_low, found.by_event.band_high, strict=True
    ):
        assert low < e.low < e.high < high


def test_covariance_is_of_all_effects_and_its_leads():
    events = did.group_time(
        make_study(company(np.random.default_rng(21), starts=(2, 4)), "staggered")
    ).by_event
    covariance = np.array(events.covariance_all)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([e.se for e in events.estimates])
    m = len(events.leads)
    assert np.array(events.covariance) == pytest.approx(covariance[:m, :m])
    assert events.df == 39


def test_figures_say_what_they_show():
    found = did.group_time(make_study(world("cohort", 0.0, np.random.default_rng(22)).frame, "staggered"))
    study = make_study(world("cohort", 0.0, np.random.default_rng(22)).frame, "staggered")
    picture, heat = event_study(found.by_event, study), cohort_effects(found, study)
    assert picture.title.startswith("Before training ") and "bands exclude" in picture.title.replace(
        "excludes", "exclude"
    )
    assert (
        heat.title
        == "2 of 3 cohorts moved the right way; most in those trained from 3, least in those trained from 9"
    )
    assert "trained from 3: +" in heat.alt
    assert heat.png() == cohort_effects(found, study).png()
    assert cohort_effects(None, study) is None
    one = make_study(company(np.random.default_rng(23)), "two_group_before_after")
    assert cohort_effects(did.group_time(one), one) is None
