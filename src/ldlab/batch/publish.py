"""From an executed notebook to files that may be published: clean it, find its failure, hold it at the gate."""

from __future__ import annotations

import base64
import copy
import csv
import getpass
import io
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ldlab import disclosure
from ldlab.batch.jobs import Job
from ldlab.batch.notebook import INJECTED_TAG, TAG, tags

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK_FILE, PAGE_FILE = "report.ipynb", "report.html"
PAPERMILL_TAG = "papermill-error-cell-tag"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
_HOMES = re.compile(r"(?<![\w.~-])(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+[\w.-]+")


class LookedUp(Protocol):
    """Ids that are looked up instead of listed; see :class:`ldlab.data.unit_ids.UnitIds`."""

    def __call__(self, words: frozenset[str]) -> frozenset[str]:
        """The ids that a text with these words could hold."""
        ...

    def short(self) -> frozenset[str]:
        """At least all ids that are too short to be searched for."""
        ...


type Ids = frozenset[str] | LookedUp


def ids_not_searched(ids: Ids) -> int:
    """How many ids are too short to be told from counts and words."""
    listed = ids.short() if callable(ids) else ids
    return len(listed) - len(disclosure.searchable(listed))


@dataclass(frozen=True)
class About:
    """What publication needs to know of a program: its rules and its ids."""

    title: str
    ids: Ids
    minimum: int
    unit_column: str = ""
    unit: str = ""


def relative(path: Path, root: Path) -> str:
    """A path as a notebook is given it: relative to the project."""
    return Path(os.path.relpath(path, root)).as_posix()


def cleaned(job: Job, notebook: NotebookNode) -> NotebookNode:
    """A job's notebook, fit for publication."""
    final = "/".join(part for part in ("outputs", job.program, job.notebook) if part)
    return clean(notebook, staging=relative(job.staged, job.root), final=final, root=job.root)


def clean(notebook: NotebookNode, *, staging: str, final: str, root: Path) -> NotebookNode:
    """A copy fit for publication, the same from run to run if the outputs are.

    papermill's and the kernel's metadata, standard error, widgets and error markers go; the injected cell takes
    the place of the parameters cell, so that the copy runs again as it stands; the staging folder becomes the
    final one; absolute paths become relative, home folders ``~``.

    Parameters
    ----------
    notebook
        The executed notebook.
    staging, final
        The output folder that it was given, and the one that it is published in.
    root
        The project folder.
    """
    notebook = copy.deepcopy(notebook)
    for key in set(notebook.metadata) - {"kernelspec", "language_info"}:
        del notebook.metadata[key]
    notebook.cells = _with_parameters(c for c in notebook.cells if PAPERMILL_TAG not in tags(c))
    count = 0
    for cell in notebook.cells:
        for key in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            ran = cell.execution_count is not None
            count += 1
            cell.execution_count = count if ran else None
            cell.outputs = _kept(cell.outputs, cell.execution_count)
    return _rewritten(notebook, [(re.compile(re.escape(staging)), final), *_path_pairs(root), (_ADDRESS, "")])


def keep_shown_figures(folder: Path, notebook: NotebookNode) -> None:
    """Take away the figures that the notebook saved and does not show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    images = [output.get("data", {}).get("image/png") for output in outputs]
    shown = {base64.b64decode(image) for image in images if image}
    for path in (folder / "figures").glob("*.png"):
        if path.read_bytes() not in shown:
            path.unlink()


def without_paths(text: str, root: Path) -> str:
    """A text whose absolute paths are relative to the project, and home folders ``~``."""
    return str(_rewritten(text, _path_pairs(root)))


def _with_parameters(cells: Iterable[NotebookNode]) -> list[NotebookNode]:
    kept = list(cells)
    injected = next((cell for cell in kept if INJECTED_TAG in tags(cell)), None)
    if injected is None:
        return kept
    for cell in kept:
        if cell.cell_type == "code" and TAG in tags(cell):
            cell.source, cell.outputs, cell.execution_count = injected.source, [], injected.execution_count
    return [cell for cell in kept if cell is not injected]


def _kept(outputs: list[NotebookNode], count: int | None) -> list[NotebookNode]:
    """Outputs without standard error and widgets; neighbouring pieces of standard output joined."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name != "stdout":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif output.output_type == "execute_result":
            output.execution_count = count
        if "data" in output:
            for mime in [mime for mime in output.data if "widget" in mime]:
                del output.data[mime]
            if not output.data:
                continue
        kept.append(output)
    return kept


def _path_pairs(root: Path) -> list[tuple[re.Pattern[str], str]]:
    pairs = []
    for folder in dict.fromkeys([str(root), str(root.resolve())]):
        pairs += [(re.escape(folder) + r"[/\\]", ""), (re.escape(folder) + r"(?![\w-])", ".")]
    home = str(Path.home())
    if len(Path(home).parts) > 1:
        pairs.append((r"(?<![\w.~-])" + re.escape(home) + r"(?![\w-])", "~"))
    return [*((re.compile(pattern), text) for pattern, text in pairs), (_HOMES, "~")]


def _rewritten(value: Any, pairs: list[tuple[re.Pattern[str], str]]) -> Any:
    """The value with every pattern replaced in every text but images."""
    if isinstance(value, dict):
        items = {
            key: item
            if key.startswith("image/") and key != "image/svg+xml" and isinstance(item, str)
            else _rewritten(item, pairs)
            for key, item in value.items()
        }
        return type(value)(items)
    if isinstance(value, list):
        return [_rewritten(item, pairs) for item in value]
    if isinstance(value, str):
        for pattern, text in pairs:
            value = pattern.sub(text.replace("\\", r"\\"), value)
    return value


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy with sources only."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook."""
    import nbformat

    return nbformat.read(path, as_version=4)


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook in the stable form."""
    import nbformat

    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def gate(folder: Path, *, ids: Ids, minimum: int, root: Path, unit_column: str = "", unit: str = "") -> None:
    """Hold the finished files of a folder back if they would disclose something.

    Raises
    ------
    DisclosureError
        Naming files and kinds of leak, never a value.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    disclosure.refuse(
        disclosure.scan_folder(
            folder,
            ids=ids,
            minimum=minimum,
            forbidden={root, root.resolve(), Path.home()},
            user=user,
            unit_column=unit_column,
            unit=unit,
        )
    )


def gate_job(folder: Path, job: Job, about: About) -> None:
    """Hold a job's finished files at the gate."""
    gate(
        folder,
        ids=about.ids,
        minimum=about.minimum,
        root=job.root,
        unit_column=about.unit_column,
        unit=about.unit,
    )


def defuse(folder: Path) -> None:
    """Make every CSV in a folder safe to open in a spreadsheet: a cell that would be a formula becomes a text.

    A cell that starts with ``= + - @``, a tab or a carriage return and is no number gets an apostrophe in front
    (OWASP, CSV Injection).
    """
    for path in [*folder.rglob("*.csv"), *folder.rglob("*.tsv")]:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        text = path.read_text(encoding="utf-8")
        rows = [
            [_as_text(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)
        ]
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(rows)
        if stream.getvalue() != text:
            path.write_text(stream.getvalue(), encoding="utf-8")


def _as_text(cell: str) -> str:
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return "'" + cell
    return cell
