"""What is installed is what was locked: another file under the same name and version is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent


def options() -> list[str]:
    """How `scripts/environment` calls pip for what is locked."""
    script = (ROOT / "scripts" / "environment").read_text(encoding="utf-8").replace("\\\n", " ")
    (call,) = re.findall(r'-m pip install (.*?) --requirement "\$lock"', script)
    return str(call).split()


def wheel(folder: Path, said: str) -> Path:
    """A package of one line."""
    path = folder / "smallest-1.0-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        archive.writestr("smallest.py", f"said = {said!r}\n")
        archive.writestr("smallest-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: smallest\nVersion: 1.0\n")
        archive.writestr("smallest-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr("smallest-1.0.dist-info/RECORD", "")
    return path


@pytest.mark.fault(90)
@pytest.mark.parametrize("what", ["as locked", "tampered with", "without a hash"])
def test_a_package_whose_hash_is_not_in_the_lock_is_not_installed(tmp_path: Path, what: str) -> None:
    """The very options that build our environments install the locked file, and refuse one that nobody vouches for."""
    locked = sha256(wheel(tmp_path, "what was locked").read_bytes()).hexdigest()
    if what == "tampered with":
        wheel(tmp_path, "what somebody put in its place")
    lock = tmp_path / "run.lock"
    known = "" if what == "without a hash" else f" \\\n    --hash=sha256:{locked}"
    lock.write_text(f"smallest==1.0{known}\n", encoding="utf-8")
    found = ["--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "installed")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options(), *found, "--requirement", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (0 if what == "as locked" else 1), done.stderr
    assert (tmp_path / "installed" / "smallest.py").exists() is (what == "as locked")
    said = {"as locked": "", "tampered with": "DO NOT MATCH THE HASHES", "without a hash": "Hashes are required"}
    assert said[what] in done.stderr
