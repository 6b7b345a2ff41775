"""The outputs folder: one batch at a time, folders swapped in whole, private files, the log of runs."""

from __future__ import annotations

import ctypes
import datetime as dt
import errno
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldlab.program import InputError

STAGING, PRIVATE, ASIDE = ".staging", ".private", ".old."
LOCK_FILE, LOG_FILE, PROGRAMS_FILE, RUNTIME = ".lock", "run-log.jsonl", ".programs.json", "ldlab-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def now() -> str:
    """The time, UTC, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


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
        (outputs / STAGING).mkdir(mode=0o700, exist_ok=True)
        (outputs / LOCK_FILE).touch()
    except OSError as error:
        raise cannot_write(outputs, error) from error


def cannot_write(outputs: Path, error: OSError) -> InputError:
    """The refusal to run where nothing can be written."""
    from ldlab.program import Fault, InputError

    expected = "a folder that can be written to"
    return InputError([Fault(outputs.name, None, "folder", _wrong_with(error), expected)])


def _wrong_with(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file in the place of a folder"
    if isinstance(error, PermissionError):
        return "a folder that this user may not write to"
    return f"a folder that cannot be written to ({error.strerror or type(error).__name__})"


@contextmanager
def alone(outputs: Path) -> Iterator[None]:
    """Hold the outputs folder; the operating system lets go of it when this process ends, however it ends.

    Raises
    ------
    LdlabError
        If another batch holds it; says which.
    """
    with (outputs / LOCK_FILE).open("r+b", buffering=0) as file:
        if not _take(file):
            from ldlab.program import LdlabError

            raise LdlabError(
                f"{outputs.name}/ is in use by another batch ({_holder(file)}). Wait until it ends."
            )
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now()}
        with suppress(OSError):  # on a full disk it is held all the same
            file.truncate(0)
            file.write(json.dumps(holder).encode())
        yield
        with suppress(OSError):
            file.truncate(0)


def in_use(outputs: Path) -> bool:
    """Whether a batch holds the outputs folder now."""
    try:
        with (outputs / LOCK_FILE).open("r+b", buffering=0) as file:
            return not _take(file)
    except OSError:
        return False


def _take(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(4096)  # what is locked there cannot be read: lock behind the text
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK):
            raise
        return False
    return True


def _holder(file: IO[bytes]) -> str:
    try:
        file.seek(0)
        holder = json.loads(file.read())
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "it does not say which"


def recover(outputs: Path) -> None:
    """Finish the swaps that a batch which is no more left half done; only the holder may do this."""
    for aside in [*outputs.glob(f"{ASIDE}*"), *outputs.glob(f"*/{ASIDE}*")]:
        _restore(aside)


def forget(outputs: Path) -> None:
    """Remove what earlier batches staged, and the sockets of their kernels."""
    for run in (outputs / STAGING).glob("*"):
        forget_run(outputs, run.name)


def forget_run(outputs: Path, run: str) -> None:
    """Remove what one batch staged, and the sockets of its kernels."""
    for folder in Path(tempfile.gettempdir()).glob(f"{RUNTIME}{run}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(outputs / STAGING / run, ignore_errors=True)


def swap(staged: Path, final: Path) -> None:
    """Put a finished folder in the place of the old one, on disk before it is seen.

    Where the system can exchange two folders (Linux), there is no moment without one; elsewhere two renames,
    which :func:`recover` finishes.
    """
    _sync_tree(staged)
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = final.with_name(ASIDE + final.name)
    _restore(aside)
    if final.exists() and _exchange(staged, final):
        _sync(final.parent)
        shutil.rmtree(staged, ignore_errors=True)
        return
    if final.exists():
        final.rename(aside)
    staged.rename(final)
    _sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def put(file: Path, final: Path) -> None:
    """Put a finished file in the place of the old one, on disk before it is seen."""
    _sync(file)
    file.replace(final)
    _sync(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # glibc before 2.28
        return False
    return rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def _restore(aside: Path) -> None:
    """Finish a swap that was interrupted: the old folder comes back if no new one took its place."""
    final = aside.with_name(aside.name.removeprefix(ASIDE))
    if not aside.exists():
        return
    if final.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(final)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def log(outputs: Path, run: str, **event: Any) -> None:
    """Add a line to the log of runs. A log that cannot be written stops nobody."""
    line = json.dumps({"time": now(), "run": run, **event}, ensure_ascii=False) + "\n"
    with suppress(OSError), (outputs / LOG_FILE).open("a", encoding="utf-8") as file:
        file.write(line)
