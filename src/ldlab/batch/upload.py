"""Finished folders, copied to any place that fsspec knows: S3, GCS, SFTP, another disk ..."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldlab.batch.failure import INDEX_FILE
from ldlab.batch.jobs import PORTFOLIO, Job
from ldlab.batch.record import RECORD_FILE


def send_all(jobs: Sequence[Job], url: str) -> int:
    """Copy the published folders that are not there yet; each one's ``run.json`` last, so that what has it is whole.

    Returns
    -------
    int
        How many folders were copied.

    Raises
    ------
    LdlabError
        If fsspec, or what it needs for this kind of address, is not installed, or the place cannot be written to.
    """
    from ldlab.program import LdlabError

    try:
        import fsspec  # type: ignore[import-untyped]

        system, base = fsspec.core.url_to_fs(url)
        return sum(_send(job, system, base) for job in jobs if (job.final / RECORD_FILE).is_file())
    except ImportError as error:
        raise LdlabError(
            f"--upload needs another package ({error}). Start with: pip install 'ldlab[dask]'"
        ) from None
    except (OSError, ValueError) as error:
        raise LdlabError(
            f"Nothing more could be uploaded: {type(error).__name__}. What is there is whole."
        ) from None


def _send(job: Job, system: Any, base: str) -> bool:
    target = posixpath.join(base, *(part for part in (job.program, job.notebook) if part))
    record, there = (job.final / RECORD_FILE).read_bytes(), posixpath.join(target, RECORD_FILE)
    if system.exists(there) and system.cat_file(there) == record:
        return False
    if system.exists(target):
        system.rm(target, recursive=True)
    files = [
        (path, posixpath.join(target, path.relative_to(job.final).as_posix())) for path in _files(job.final)
    ]
    if job.notebook == PORTFOLIO:
        files.insert(0, (job.outputs / INDEX_FILE, posixpath.join(base, INDEX_FILE)))
    for path, place in files:
        system.makedirs(posixpath.dirname(place), exist_ok=True)
        system.put_file(os.fspath(path), place)
    return True


def _files(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: (path.name == RECORD_FILE, path))
