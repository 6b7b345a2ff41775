"""From an executed notebook to published files: clean it, hold it at the gate, swap the folder in."""

from __future__ import annotations

import copy
import getpass
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ldlab import disclosure
from ldlab.batch.notebook import INJECTED_TAG, TAG, tags
from ldlab.program import Fault, InputError, LdlabError

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK_FILE, PAGE_FILE, ERROR_FILE = "report.ipynb", "report.html", "error.json"
STAGING, PRIVATE, ASIDE = ".staging", ".private", ".old."
PAPERMILL_TAG = "papermill-error-cell-tag"
WITHHELD = (
    "The message may quote data and is kept out of this page; it is in the private log of whoever ran it."
)
KERNEL_DIED = "The kernel died while this cell ran. A common cause is too little memory."
_ANSI = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
_HOMES = re.compile(r"(?<![\w.~-])(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+[\w.-]+")


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in words that may be published.

    ``status`` is 'refused' where the disclosure gate held the files back. ``cell`` counts the notebook's code
    cells from 1; None where no cell is to blame.
    """

    notebook: str
    program: str
    error_type: str
    cell: int | None
    message: str
    status: Literal["failed", "refused"] = "failed"

    def __str__(self) -> str:
        if self.status == "refused":
            return f"was refused by the disclosure gate. {self.message}"
        if self.cell:
            return f"failed at cell {self.cell}: {self.error_type}"
        return f"{self.error_type}: {self.message}"


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


def own_errors() -> set[str]:
    """Names of ldlab's own exceptions, whose messages are written for readers and quote no row of data."""
    names, classes = {disclosure.DisclosureError.__name__}, [LdlabError, InputError]
    while classes:
        one = classes.pop()
        names.add(one.__name__)
        classes.extend(one.__subclasses__())
    return names


def find_failure(notebook: NotebookNode, program: str, name: str) -> tuple[Failure, str]:
    """The failure that an executed notebook shows, and its private traceback.

    Without an error output the kernel died: in the last cell that papermill started, for its own status
    says 'completed' of cells that never ran.
    """
    code = [c for c in notebook.cells if c.cell_type == "code" and PAPERMILL_TAG not in tags(c)]
    code = [c for c in code if INJECTED_TAG not in tags(c)]
    last = None
    for number, cell in enumerate(code, start=1):
        if cell.metadata.get("papermill", {}).get("start_time"):
            last = number
        for output in cell.outputs:
            if output.output_type == "error":
                own = output.ename in own_errors()
                message = _ANSI.sub("", output.evalue) if own else WITHHELD
                private = (
                    _ANSI.sub("", "\n".join(output.traceback)) + f"\n\n{output.ename}: {output.evalue}\n"
                )
                return Failure(name, program, output.ename, number, message), private
    return Failure(
        name, program, "DeadKernelError", last, KERNEL_DIED
    ), "The kernel died; there is no traceback.\n"


def without_tracebacks(notebook: NotebookNode, failure: Failure) -> NotebookNode:
    """A copy whose error outputs say type and publishable message only."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.evalue, output.traceback = failure.message, []
    return notebook


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


def write_failure(failure: Failure, path: Path) -> None:
    """Write an ``error.json``."""
    path.write_text(
        json.dumps(asdict(failure), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def gate(
    folder: Path, *, ids: Iterable[str], minimum: int, root: Path, unit_column: str = "", unit: str = ""
) -> None:
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


def swap(staged: Path, final: Path) -> None:
    """Put a finished folder in the place of the old one: two renames, so that no reader sees a mixture."""
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = final.with_name(ASIDE + final.name)
    _restore(aside)
    if final.exists():
        final.rename(aside)
    staged.rename(final)
    shutil.rmtree(aside, ignore_errors=True)


def _restore(aside: Path) -> None:
    """Finish a swap that was interrupted: the old folder comes back if no new one took its place."""
    final = aside.with_name(aside.name.removeprefix(ASIDE))
    if not aside.exists():
        return
    if final.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(final)


def make_room(outputs: Path) -> None:
    """Make the output folder ready for a run, or refuse before anything runs.

    Raises
    ------
    InputError
        If it is a file, or may not be written to.
    """
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        if not os.access(outputs, os.W_OK | os.X_OK):
            raise PermissionError
        recover(outputs)
        (outputs / STAGING).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            found = "a file in the place of a folder"
        elif isinstance(error, PermissionError):
            found = "a folder that this user may not write to"
        else:
            found = f"a folder that cannot be written to ({error.strerror or type(error).__name__})"
        raise InputError(
            [Fault(outputs.name, None, "folder", found, "a folder that can be written to")]
        ) from error


def recover(outputs: Path) -> None:
    """Finish interrupted swaps, and clear the staging folders of runs that are no more."""
    for aside in [*outputs.glob(f"{ASIDE}*"), *outputs.glob(f"*/{ASIDE}*")]:
        _restore(aside)
    for run in (outputs / STAGING).glob("*"):
        pid = run.name.partition("-")[0]
        if not (pid.isdigit() and _is_alive(int(pid))):
            shutil.rmtree(run, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def write_private(outputs: Path, program: str, name: str, text: str) -> None:
    """Keep a traceback, which may quote rows of data, for the eyes of this user only."""
    folder = outputs / PRIVATE / program
    for part in (outputs / PRIVATE, folder):
        part.mkdir(mode=0o700, exist_ok=True)
        part.chmod(0o700)
    path = folder / f"{name}.txt"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def forget_failure(outputs: Path, program: str, name: str, failed: Path) -> None:
    """After a success: the failed copy and its private traceback go."""
    shutil.rmtree(failed, ignore_errors=True)
    (outputs / PRIVATE / program / f"{name}.txt").unlink(missing_ok=True)
