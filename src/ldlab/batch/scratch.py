"""A run, copied to where a person may change it: Run All in JupyterLab gives the same result there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ldlab.batch.inputs import READ_BY_BRIEF
from ldlab.batch.jobs import BRIEF, PORTFOLIO
from ldlab.batch.notebook import TAG, tags
from ldlab.batch.publish import NOTEBOOK_FILE
from ldlab.program import LdlabError, did_you_mean

SCRATCH = "scratch"


def open_run(program: str, notebook: str, *, root: Path, outputs: Path | None = None) -> Path:
    """Copy a run's notebook to ``scratch/PROGRAM/NOTEBOOK/``, without its outputs, its parameters in place.

    The results that a brief or the portfolio reads are copied beside it, so that it finds what the run found.

    Parameters
    ----------
    program
        A program's id; for the portfolio, ``portfolio``.
    notebook
        A notebook that was run for it.

    Returns
    -------
    Path
        The copied notebook. It writes into its own folder only.

    Raises
    ------
    LdlabError
        If there is no such run, or the copy is there already with changes of somebody's.
    """
    outputs = outputs or root / "outputs"
    about = "" if program == PORTFOLIO else program
    source = _found(outputs, about, notebook)
    folder = root / SCRATCH / about / notebook
    copy = folder / f"{notebook}.ipynb"
    text = _with_output_dir(
        json.loads(source.read_text(encoding="utf-8")), folder.relative_to(root).as_posix()
    )
    if copy.exists() and copy.read_text(encoding="utf-8") != text:
        raise LdlabError(
            f"{copy.relative_to(root)} is there already, and was changed. Rename or delete it first."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for result in _read_by(outputs, about, notebook):
        place = root / SCRATCH / result.relative_to(outputs)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(result, place)
    copy.write_text(text, encoding="utf-8")
    return copy


def _found(outputs: Path, about: str, notebook: str) -> Path:
    for folder in (outputs / about / notebook, outputs / about / f"{notebook}.failed"):
        if (folder / NOTEBOOK_FILE).is_file():
            return folder / NOTEBOOK_FILE
    known = sorted(
        {p.parent.name.removesuffix(".failed") for p in (outputs / about).glob(f"*/{NOTEBOOK_FILE}")}
    )
    hint = did_you_mean(notebook, known) or (f"There are: {', '.join(known)}." if known else "")
    name = "/".join(part for part in (about, notebook) if part)
    raise LdlabError(f"No run of {name} was found in {outputs.name}/. {hint}".rstrip())


def _read_by(outputs: Path, about: str, notebook: str) -> list[Path]:
    """The results that a brief or the portfolio reads."""
    if notebook == BRIEF:
        return sorted(path for name in READ_BY_BRIEF for path in outputs.glob(f"{about}/*/{name}"))
    if notebook == PORTFOLIO:
        return sorted([*outputs.glob(f"*/{BRIEF}/brief.json"), *outputs.glob("*/*.failed/error.json")])
    return []


def _with_output_dir(notebook: dict[str, object], output_dir: str) -> str:
    """The notebook as JSON, without outputs, told to write where it is."""
    cells: list[dict[str, object]] = notebook["cells"]  # type: ignore[assignment]
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        cell["outputs"], cell["execution_count"] = [], None
        if TAG in tags(cell):
            lines = "".join(cell["source"]).splitlines()  # type: ignore[arg-type]
            kept = [line for line in lines if not line.startswith("output_dir")]
            cell["source"] = "\n".join([*kept, f"output_dir = {json.dumps(output_dir)}"])
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
