"""A Study from a frame that is already canonical, for tests of the rooms that take one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ldlab.program import Program, Study

DATA = Path(__file__).parents[1] / "data"
ROLES = {"unit", "arm", "treated", "outcome", "cluster", "segment", "count", "exposure", "period", "start"}
PANELS = ("staggered", "two_group_before_after", "before_after")


def make_study(
    frame: pd.DataFrame,
    design: str | dict[str, Any] = "randomised",
    *,
    covariates: tuple[str, ...] | None = None,
    baseline: float | None = None,
    missing: pd.DataFrame | None = None,
    level: float = 0.95,
    minimum: int = 10,
    **sections: dict[str, Any],
) -> Study:
    """A study of ``frame``, with a small valid program whose sections ``sections`` override.

    Parameters
    ----------
    frame
        Columns as in :class:`ldlab.Study`; ``unit``, ``treated``, and in panels ``arm``, are filled in.
    design
        The design's kind, or the whole ``design`` section but for its columns.
    covariates
        Default: all columns that have no other role.
    """
    frame = _complete(frame)
    asked = {"kind": design} if isinstance(design, str) else dict(design)
    names = covariates if covariates is not None else tuple(name for name in frame if name not in ROLES)
    columns = {"unit": "unit", "covariates": names, **asked.pop("columns", {})}
    columns |= {role: role for role in ("cluster", "segment") if role in frame}
    is_panel = asked["kind"] in PANELS
    columns |= {"period": "period", "start": "start"} if is_panel else {"treatment": "arm"}
    defaults: dict[str, dict[str, Any]] = {
        "objective": {"goal": "Serve customers faster", "key_result": "Down by a tenth", "owner": "COO"},
        "kpi": {
            "column": "outcome", "label": "resolution time", "unit": "minutes", "direction": "increase",
            "value_type": "continuous", "owner": "Service",
            "smallest_effect_worth_having": {"value": 0.5, "unit": "minutes"},
            "target": {"value": 1.0, "unit": "minutes"},
        },
        "skills": {"gap": "Slow", "learning_objective": "Faster"},
        "design": {"unit": "agent", "population": "agents", "period": "week", "columns": columns, **asked},
        "data": {"source": "data/made_up.csv"},
        "agreement": {
            "agreed_by": ["COO"], "agreed_on": "2026-01-05", "decision_rule": [{"decision": "continue"}]
        },
        "analysis": {"interval_level": level, "minimum_group_size": minimum},
    }  # fmt: skip
    program = Program.model_validate(
        {"id": "made-up", "title": "A program", "owner": "People analytics"}
        | {name: {**section, **sections.pop(name, {})} for name, section in defaults.items()}
        | sections
    )
    if missing is None:
        missing = frame.groupby("arm").size().to_frame("rows")
        missing["without KPI"] = 0
        missing["without covariates"] = frame[list(names)].isna().any(axis=1).groupby(frame["arm"]).sum()
    untrained = frame.loc[frame["treated"] == 0, "outcome"].mean()
    return Study(
        program=program,
        frame=frame,
        covariates=tuple(names),
        baseline=float(untrained) if baseline is None else baseline,
        missing=missing,
        periods=tuple(range(int(frame["period"].max()) + 1)) if is_panel else (),
    )


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.reset_index(drop=True)
    if "unit" not in frame:
        frame = frame.assign(unit=[f"u{i}" for i in frame.index])
    if "start" in frame:
        frame = frame.assign(
            start=frame["start"].astype(float),
            treated=(frame["period"] >= frame["start"]).astype(int),
            arm=frame["start"].notna().astype(int),
        )
    return frame if "treated" in frame else frame.assign(treated=frame["arm"])
