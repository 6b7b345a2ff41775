"""Figures: claims as titles, alternative text, units on axes, nobody's own point, the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldlab import did, plots
from ldlab.estimate import Estimate
from ldlab.plots import figure, samples
from ldlab.program import Study
from tests.studies import make_study


def panel_study(**columns: object) -> Study:
    rng = np.random.default_rng(5)
    rows = [
        {
            "unit": f"secret-{i}",
            "period": t,
            "start": {0: 2.0, 1: 3.0}.get(i % 3, np.nan),
            "outcome": 50 + rng.normal(),
        }
        for i in range(60)
        for t in range(5)
    ]
    return make_study(pd.DataFrame(rows).assign(**columns), "staggered")


def cross_section(values: np.ndarray, minimum: int = 10, **sections: object) -> Study:
    frame = pd.DataFrame(
        {
            "unit": [f"secret-{i}" for i in range(len(values))],
            "arm": np.arange(len(values)) % 2,
            "outcome": values,
        }
    )
    return make_study(frame, minimum=minimum, **sections)


def estimate(value: float, term: str = "", **changes: object) -> Estimate:
    study = cross_section(np.arange(40.0))
    rest = {
        "method": "difference in means",
        "estimand": "ATE",
        "se_kind": "HC2",
        "n": {},
        **study.measure(),
        **changes,
    }
    return Estimate.from_t(value, 0.4, term=term, **rest)


def posterior(study: Study) -> SimpleNamespace:
    rng = np.random.default_rng(3)
    return SimpleNamespace(
        study=study, effect=rng.normal(1, 0.4, 4000), prior_effect=rng.normal(0, 2, 4000), idata=None
    )


def statistic(place: float) -> SimpleNamespace:
    return SimpleNamespace(
        family="mean", label="trained", observed=place, replicated=np.random.default_rng(1).normal(size=500)
    )


def every_figure() -> dict[str, plots.Figure | None]:
    study, cross = panel_study(), cross_section(np.random.default_rng(2).normal(50, 8, 400))
    table = pd.DataFrame({"covariate": ["age", "tenure"], "mean trained": 1.0, "mean comparison": 1.0,
                          "standardised difference": [0.31, -0.02]})  # fmt: skip
    return {
        "interval": plots.interval([estimate(1.2), estimate(0.9)], title="A claim " * 30),
        "segments": plots.segments([estimate(1.2, "North"), estimate(-0.5, "<script>$x$")]),
        "event_study": plots.event_study(did.event_study(study), study),
        "trends": plots.trends(study),
        "arms": plots.arms(cross),
        "balance": plots.balance(table),
        "prior": plots.prior_predictive(posterior(cross)),  # type: ignore[arg-type]
        "prior_posterior": plots.prior_posterior(posterior(cross), estimate(1.0)),  # type: ignore[arg-type]
        "posterior_predictive": plots.posterior_predictive([statistic(0.1), statistic(4.0)]),
    }


FIGURES = every_figure()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_claim_alternative_text_and_room_for_its_title(name: str) -> None:
    figure = FIGURES[name]
    assert figure is not None
    data, metadata = figure._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == figure.alt
    assert len(figure.alt) > 20 and len(figure.title) > 15
    assert "secret" not in figure.alt + figure.title + data["text/plain"]
    canvas = figure.canvas
    canvas.draw_without_rendering()
    frame = canvas.bbox
    texts = [t for axes in canvas.axes for t in [axes.xaxis.label, axes.yaxis.label, *axes.texts]] + list(
        canvas.texts
    )
    assert canvas._suptitle is not None
    for text in [*texts, canvas._suptitle]:
        box = text.get_window_extent()
        assert not text.get_text() or (
            box.x0 >= -1 and box.x1 <= frame.x1 + 1 and box.y0 >= -1 and box.y1 <= frame.y1 + 1
        )


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_has_the_same_bytes(name: str) -> None:
    again = every_figure()[name]
    figure = FIGURES[name]
    assert figure is not None and again is not None
    assert figure.png() == again.png()
    assert b"matplotlib" not in figure.png()


def test_text_from_data_is_not_read_as_mathematics() -> None:
    figure = FIGURES["segments"]
    assert figure is not None
    labels = [label.get_text() for label in figure.canvas.axes[0].get_yticklabels()]
    assert "<script>$x$" in labels
    assert not any(label.get_parse_math() for label in figure.canvas.axes[0].get_yticklabels())


def test_classes_hold_the_minimum_group_of_each_arm() -> None:
    rng = np.random.default_rng(11)
    values = [np.append(rng.normal(size=200), 999.0), rng.normal(1, 1, size=60)]
    edges = samples._classes(values, 10)
    assert len(edges) > 2 and edges[-1] < 50, "the largest value cannot be read from the axis"
    assert all(samples._counts(part, edges).min() >= 10 for part in values)
    assert samples._class_labels(np.array([0.0, 2.5, 5.0])) == [
        "under 0.0",
        "0.0 to 2.5",
        "2.5 to 5.0",
        "5.0 or more",
    ]
    assert samples._class_labels(samples._classes([np.zeros(40), np.zeros(40)], 10)) == ["all"]


def test_a_unit_counts_once_in_a_panel() -> None:
    """12 people over 40 weeks are too few for two classes of 10."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(
        {"unit": np.repeat([f"u{i}" for i in range(24)], 40), "period": np.tile(range(40), 24)}
    )
    frame = frame.assign(start=np.where(frame["unit"].isin([f"u{i}" for i in range(12)]), 20.0, np.nan),
                         outcome=rng.normal(size=960))  # fmt: skip
    labels = plots.arms(make_study(frame, "staggered")).canvas.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["all"]


def test_saving_makes_the_folder_and_keeps_the_bytes(tmp_path: Path) -> None:
    figure = FIGURES["arms"]
    assert figure is not None
    saved = figure.save(tmp_path / "figures")
    assert saved.name == "arms.png" and saved.read_bytes() == figure.png()


def test_labels_of_close_lines_do_not_meet() -> None:
    figure = plots.interval([estimate(30.0)], title="A claim that the target is far below the effect")
    figure.canvas.draw_without_rendering()
    zero, target = (text.get_window_extent() for text in figure.canvas.axes[0].texts)
    assert zero.x1 < target.x0 or target.x1 < zero.x0


def test_titles_keep_inside_the_saved_picture() -> None:
    """Widths are measured at the resolution that is saved: a title of every length fits."""
    for words in range(6, 40):
        canvas = plots.interval([estimate(1.2)], title="minutes per ticket " * words).canvas
        title = canvas._suptitle
        assert title is not None and canvas.dpi == figure.DPI
        assert title.get_window_extent().x1 <= canvas.bbox.x1


def test_cohorts_and_cells_under_the_minimum_group_are_not_drawn() -> None:
    study = panel_study()
    frame = study.frame.copy()
    frame.loc[frame["unit"].isin([f"secret-{i}" for i in range(0, 15, 3)]), "start"] = 4.0
    small = samples._cohort_means(make_study(frame, "staggered"), 10)
    assert [start for start, _ in small if not np.isnan(start)] == [2.0, 3.0]


def test_nothing_to_draw_is_none() -> None:
    assert plots.segments(()) is None
    assert plots.balance(pd.DataFrame(columns=["covariate"])) is None
    assert plots.event_study(None, panel_study()) is None


def test_titles_follow_the_numbers() -> None:
    apart = plots.segments([estimate(5.0, "North"), estimate(0.0, "South")])
    alike = plots.segments([estimate(1.0, "North"), estimate(1.1, "South")])
    assert apart is not None and "most in North, least in South" in apart.title
    assert alike is not None and "no segment stands out" in alike.title
    assert plots.posterior_predictive([statistic(0.1), statistic(9.0)]).title.startswith(
        "1 of 2 statistics lie outside"
    )


def test_the_palette_survives_greyscale() -> None:
    def lightness(color: str) -> float:
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    assert abs(lightness(figure.ACCENT) - lightness(figure.PALE)) > 80
    styles = {(line, marker) for _, line, marker in figure.COHORT_STYLES}
    assert len(styles) == len(figure.COHORT_STYLES), "cohorts differ by line and marker, not by colour alone"


def labels_of(drawn: plots.Figure) -> list[str]:
    return [label.get_text() for label in drawn.canvas.axes[0].get_yticklabels()]


def test_arms_are_shown_in_the_kpis_own_unit() -> None:
    """Whole numbers by name, a logarithm turned back, a share in percent."""
    rng = np.random.default_rng(3)
    scale = {"value_type": "ordinal", "lowest": 1, "highest": 5, "unit": "points of 5"}
    amount = {"value": 0.5, "unit": "points of 5"}
    scale |= {"target": amount, "smallest_effect_worth_having": amount}
    frame = pd.DataFrame({"arm": np.arange(400) % 2, "outcome": rng.integers(1, 6, 400).astype(float)})
    assert labels_of(plots.arms(make_study(frame, covariates=(), kpi=scale))) == ["1", "2", "3", "4", "5"]
    percent = {"value": 5.0, "unit": "percent of baseline"}
    log = {"scale": "log", "target": percent, "smallest_effect_worth_having": percent}
    times = frame.assign(outcome=np.log(np.where(np.arange(400) % 4 < 2, 40.0, 90.0)))
    alt = plots.arms(make_study(times, covariates=(), kpi=log)).alt
    assert alt.startswith(
        "Geometric mean of resolution time, trained against comparison: 60.0 against 60.0 minutes"
    )
    assert "log" not in alt
    points = {"value": 1.0, "unit": "percentage points"}
    binary = {"value_type": "binary", "unit": "percentage points", "target": points,
              "smallest_effect_worth_having": points}  # fmt: skip
    share = plots.arms(
        make_study(frame.assign(outcome=100.0 * (frame["outcome"] > 3)), covariates=(), kpi=binary)
    )
    assert share.title.startswith("Share with resolution time") and share.title.endswith("percent")
