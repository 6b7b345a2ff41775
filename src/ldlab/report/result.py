"""What a notebook concludes, and its one serial form, ``estimate.json``."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from ldlab.estimate import (
    VERDICT_MEANS,
    Check,
    Claim,
    Decision,
    Estimate,
    Grade,
    GuardRailResult,
    KpiResult,
    Money,
    Noun,
    rows_to_html,
)
from ldlab.program import LdlabError, Program, Study
from ldlab.program.reading import iso, to_json
from ldlab.report import claim as claims

SCHEMA_VERSION = 1
DRAWS_FILE = "draws.json"
PACKAGES = (
    "ldlab",
    "pandas",
    "numpy",
    "pymc",
    "nutpie",
    "arviz",
    "linearmodels",
    "statsmodels",
    "tea-tasting",
    "duckdb",
)


class Picture(Protocol):
    """Anything that saves itself as a PNG into a folder."""

    def save(self, folder: Path) -> Path:
        """Write the PNG and return its path."""
        ...


class OtherKpis(Protocol):
    """What was found of the KPIs beside the primary one."""

    @property
    def secondary(self) -> Sequence[KpiResult]:
        """Of each secondary KPI."""
        ...

    @property
    def guard_rails(self) -> Sequence[GuardRailResult]:
        """Of each guard-rail, in each arm."""
        ...


class Said(Protocol):
    """Anything that says what it found in a sentence."""

    @property
    def sentence(self) -> str:
        """For a leader."""
        ...


class Saved(Noun):
    """A noun that is saved as a file in a folder of its own."""

    @property
    def default_folder(self) -> str:
        """Where it belongs, relative to the project."""
        raise NotImplementedError


class Result(Saved):
    """What one notebook found about one program: the content of ``estimate.json``.

    Stable from run to run with the same inputs and seed: no clock, no path, no user.
    """

    schema_version: int = SCHEMA_VERSION
    program: str
    notebook: str
    leading_notebook: str
    question: str
    lead: Estimate
    estimates: tuple[Estimate, ...]
    kpi: dict[str, str]
    target: dict[str, float | str]
    checks: tuple[Check, ...]
    claim: Claim
    grade: Grade
    decision: Decision
    money: Money | None = None
    secondary: tuple[KpiResult, ...] = ()
    guard_rails: tuple[GuardRailResult, ...] = ()
    findings: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    sample: dict[str, int | str | None]
    inputs: dict[str, str]
    versions: dict[str, str]
    git: str | None = None
    seed: int
    run_id: str

    @property
    def default_folder(self) -> str:
        """Where it belongs, relative to the project."""
        return f"outputs/{self.program}/{self.notebook}"

    @property
    def leads(self) -> bool:
        """Whether this is the program's leading notebook."""
        return self.notebook == self.leading_notebook

    def __str__(self) -> str:
        return f"{self.claim}\nVerdict: {self.claim.verdict}. Grade {self.grade}. Decision: {self.decision.decision}."

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [
            ("Claim", self.claim.sentence),
            ("Verdict", f"{self.claim.verdict}: {VERDICT_MEANS[self.claim.verdict]}"),
            ("Evidence", f"grade {self.grade}: {claims.grade_in_words(self.lead.design, self.grade)}"),
            (
                "Decision" if self.leads else "The rule would say",
                f"{self.decision.decision}. {self.decision.reason}"
                + (
                    ""
                    if self.leads
                    else f" The decision is the brief's, in which {self.leading_notebook} leads."
                ),
            ),
            *(("Deviation", text) for text in self.deviations),
        ]
        return rows_to_html(rows)


def conclude(
    study: Study,
    notebook: str,
    estimates: Sequence[Estimate | None],
    checks: Sequence[Check | None],
    *,
    money: Money | None = None,
    kpis: OtherKpis | None = None,
    findings: Sequence[Said | None] = (),
    limits: Sequence[str] = (),
) -> Result:
    """Draw the conclusion: the first estimate leads, the checks limit what it may claim.

    Parameters
    ----------
    study
        The program and its data.
    notebook
        Name of the notebook that asks.
    estimates
        All estimates of the same question; the first leads. None where a method does not apply.
    checks
        All checks, also those that were not run; None where one does not apply to the design.
    money
        Costs and net benefit of the lead, where the program file gives costs.
    kpis
        What happened to the secondary KPIs and guard-rails, where the program file names any.
    findings
        What else the leader's page should say, in a sentence each: of several arms, of segments.
    limits
        What this analysis cannot tell, one short sentence each.
    """
    program = study.program
    applying = claims.applying(checks)
    minimum = program.analysis.minimum_group_size
    answers = [_without_small_counts(estimate, minimum) for estimate in estimates if estimate is not None]
    lead = answers[0]
    evidence = claims.grade(lead.design, applying)
    said = claims.claim(lead, applying, study)
    secondary = _shown(kpis.secondary, minimum) if kpis is not None else ()
    rails = _shown(kpis.guard_rails, minimum) if kpis is not None else ()
    inputs = {"program_sha256": program.sha256, "data_sha256": study.data_sha256}
    return Result(
        program=program.id,
        notebook=notebook,
        leading_notebook=program.lead,
        question=program.question(),
        lead=lead,
        estimates=tuple(answers),
        kpi={
            "label": program.kpi.label,
            "unit": program.kpi.unit,
            "direction": program.kpi.direction,
            "value_type": program.kpi.value_type,
            "owner": program.kpi.owner,
        },
        target={"value": program.kpi.target.value, "unit": program.kpi.target.unit, "effect": study.target},
        checks=tuple(applying),
        claim=said,
        grade=evidence,
        decision=claims.decide(program, lead, said, evidence, money, guard_rails=rails),
        money=money,
        secondary=secondary,
        guard_rails=rails,
        findings=tuple(finding.sentence for finding in findings if finding is not None),
        deviations=claims.deviations(study),
        limits=tuple(limits),
        sample={
            "units": program.design.units,
            "period": program.design.period,
            "periods": len(study.periods) or None,
            "first": iso(study.periods[0]) if study.periods else None,
            "cut_off": iso(study.cut_off),
        },
        inputs=inputs,
        versions=_versions(),
        git=git_state(program.root),
        seed=program.analysis.seed,
        run_id=_run_id(program, notebook, inputs),
    )


def _without_small_counts(estimate: Estimate, minimum: int) -> Estimate:
    """The estimate with counts of small groups of units set to None; clusters are not people."""
    counts = {
        name: None if count is not None and name != "clusters" and count < minimum else count
        for name, count in estimate.n.items()
    }
    attended, offered = estimate.n.get("attended"), estimate.n.get("treated")
    if attended is not None and offered is not None and 0 < offered - attended < minimum:
        counts["attended"] = None  # those who stayed away could be had by subtraction
    return estimate.model_copy(update={"n": counts})


def _shown[Found: (KpiResult, GuardRailResult)](results: Sequence[Found], minimum: int) -> tuple[Found, ...]:
    """The results with counts of small groups set to None."""
    return tuple(
        one.model_copy(update={"estimate": one.estimate and _without_small_counts(one.estimate, minimum)})
        for one in results
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _run_id(program: Program, notebook: str, inputs: Mapping[str, str]) -> str:
    """Six hex digits that name the run's inputs: the same inputs and seed give the same id."""
    parts = [program.id, notebook, str(program.analysis.seed), *inputs.values(), *_versions().values()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


def git_state(root: Path) -> str | None:
    """Commit of the project, and whether files differ from it; None without git."""
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit} (modified)" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()


def save(
    result: Saved,
    output_dir: str | Path,
    *,
    root: Path,
    figures: Sequence[Picture | None] = (),
    name: str = "estimate.json",
) -> None:
    """Write ``estimate.json``, ``draws.json`` and ``figures/*.png``, each whole or not at all.

    ``draws.json`` holds the posterior draws of the leading effect, where it has a posterior.

    Parameters
    ----------
    result
        The conclusion.
    output_dir
        Folder, relative to the project (made if missing); empty: the result's own place under ``outputs/``.
    root
        The project folder.
    figures
        Figures that save themselves under their own names; None where there was nothing to draw.
    name
        File name of the serial form.
    """
    folder = root / (output_dir or result.default_folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for figure in figures:
        if figure is not None:
            figure.save(folder / "figures")
    draws = getattr(getattr(result, "lead", None), "draws", None)
    if draws is not None:
        write_whole(folder / DRAWS_FILE, to_json({"effect": [float(f"{draw:.9g}") for draw in draws]}))
    write_whole(folder / name, to_json(rounded(result.model_dump(mode="json"))))


def outputs_root(folder: Path, *, levels: int) -> Path:
    """The outputs folder that ``folder`` lies in: above its ``.staging``, or ``levels`` up."""
    staging = next((parent for parent in folder.parents if parent.name == ".staging"), None)
    return staging.parent if staging is not None else folder.parents[levels - 1]


def rounded(value: Any) -> Any:
    """Floats to 12 significant digits, so that the file does not differ by the last bit of a machine.

    What is infinite or not a number becomes None: JSON has no word for it.
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.12g}") if math.isfinite(value) else None
    return value


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def load_result(path: Path) -> Result:
    """Read an ``estimate.json``, and the posterior draws beside it where there are any.

    Raises
    ------
    LdlabError
        If the file is not of this version.
    """
    try:
        result = Result.model_validate_json(path.read_text(encoding="utf-8"))
        saved = path.with_name(DRAWS_FILE)
        if not saved.exists():
            return result
        draws = json.loads(saved.read_text(encoding="utf-8"))["effect"]
        lead = result.lead.with_draws(draws)
        estimates = tuple(lead if estimate == result.lead else estimate for estimate in result.estimates)
        return result.model_copy(update={"lead": lead, "estimates": estimates})
    except (ValidationError, json.JSONDecodeError, KeyError) as error:
        raise LdlabError(
            f"{path.parent.name}/{path.name} is not of schema version {SCHEMA_VERSION}. Run the notebook again."
        ) from error
