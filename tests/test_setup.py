"""The set-up: a lock that pins by hash, and a `.ci/setup` that finds a Python that really starts."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_PYTHON = os.path.realpath(sys.executable)

WITHOUT_ENSUREPIP = """
import importlib.util as u
real = u.find_spec
u.find_spec = lambda name: None if name == 'ensurepip' else real(name)
"""


def version(minor: int) -> str:
    return f"import sys; sys.version_info = (3, {minor}, 0, 'final', 0)"


def script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def fake_python(path: Path, prelude: str = "pass") -> None:
    """A Python that runs `prelude` before whatever it is given by `-I -c`."""
    script(path, f'exec {shlex.quote(REAL_PYTHON)} -I -c {shlex.quote(prelude)}"\n$3"')


def pyenv_shim(path: Path) -> None:
    script(path, f'echo "pyenv: {path.name}: command not found" >&2; exit 127')


def which(tmp_path: Path, *folders: str) -> subprocess.CompletedProcess[str]:
    """Ask `.ci/setup` which Python it would take with these folders of `tmp_path` as the whole PATH."""
    env = {"PATH": ":".join(str(tmp_path / folder) for folder in folders), "HOME": str(tmp_path)}
    return subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "setup", "--which"], env=env, capture_output=True, text=True, check=False
    )


def test_every_requirement_is_pinned_and_hashed():
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(entries) > 50
    hashed = re.compile(r"[\w.-]+(\[[\w,-]+\])?==\S+ [^\n]*\\\n +--hash=sha256:[0-9a-f]{64}\b")
    loose = [entry.split()[0] for entry in entries if not hashed.match(entry)]
    assert loose == []


def test_the_lock_holds_no_url():
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_a_shim_that_does_not_start_is_passed_over(tmp_path):
    for name in ("python3", "python3.13", "python"):
        pyenv_shim(tmp_path / "shims" / name)
    fake_python(tmp_path / "good" / "python3")
    answer = which(tmp_path, "shims", "good")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"at {REAL_PYTHON} makes .venv" in answer.stdout


def test_pyenvs_own_folder_is_searched_last(tmp_path):
    pyenv_shim(tmp_path / "shims" / "python3")
    fake_python(tmp_path / ".pyenv" / "versions" / "3.13.0" / "bin" / "python3")
    assert f"at {REAL_PYTHON} makes .venv" in which(tmp_path, "shims").stdout


@pytest.mark.parametrize(("first", "second"), [(12, 13), (13, 12), (14, 13)])
def test_the_version_in_the_python_version_file_is_preferred(tmp_path, first, second):
    for folder, minor in (("first", first), ("second", second)):
        fake_python(tmp_path / folder / "python3", version(minor))
    assert which(tmp_path, "first", "second").stdout.startswith("Python 3.13 ")


def test_an_old_python_has_uv_fetch_a_new_one(tmp_path):
    fake_python(tmp_path / "bin" / "python3", version(11))
    answer = which(tmp_path, "bin")
    assert answer.returncode == 0
    assert "uv fetches Python 3.13" in answer.stdout
    assert f"{REAL_PYTHON} installs uv" in answer.stdout


def test_a_uv_on_the_path_is_used_before_one_is_installed(tmp_path):
    fake_python(tmp_path / "bin" / "python3", version(11))
    script(tmp_path / "bin" / "uv", "echo uv 1.0")
    assert f"uv is {tmp_path}/bin/uv." in which(tmp_path, "bin").stdout


def test_a_python_without_ensurepip_is_left_to_uv(tmp_path):
    fake_python(tmp_path / "bin" / "python3", WITHOUT_ENSUREPIP)
    script(tmp_path / "bin" / "uv", "echo uv 1.0")
    answer = which(tmp_path, "bin").stdout
    assert f"at {REAL_PYTHON} lacks ensurepip, so uv makes .venv from it" in answer


def test_no_python_at_all_says_what_was_tried_and_what_to_do(tmp_path):
    pyenv_shim(tmp_path / "shims" / "python3")
    answer = which(tmp_path, "shims")
    assert answer.returncode == 1
    assert f"{tmp_path}/shims/python3 does not start" in answer.stderr
    assert "Install Python 3.12 or newer" in answer.stderr
