"""A sealed child on an accelerator: what it may still do; what it may not stays so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmatic_hpc.sandbox import landlock, seccomp

CODE = """
import ctypes, os, sys
from pathlib import Path
from llmatic_hpc.sandbox import confine

folder, gpu = Path(sys.argv[1]), sys.argv[2] == "gpu"
os.chdir(folder / "scratch")
ctypes.CDLL(str(folder / "far" / "libfirst.so"))
confine.available()
confine._prctl(confine._PR_SET_NO_NEW_PRIVS, 1)
confine.seal(confine.LAYERS, gpu=gpu)

def tried(action):
    try:
        action()
    except OSError as error:
        return "refused"
    return "done"

lock = Path("lock")
lock.touch()
lock_mode = lock.stat().st_mode
print("late library:", tried(lambda: ctypes.CDLL(str(folder / "far" / "liblate.so.2"))))
print("its neighbour:", tried((folder / "far" / "secret.txt").read_text))
print("its folder:", tried(lambda: os.listdir(folder / "far")))
print("write there:", tried((folder / "far" / "new.so").touch))
print("chmod:", tried(lambda: os.chmod("lock", 0o777)), lock.stat().st_mode == lock_mode)
print("chown:", tried(lambda: os.chown("lock", 1, 1)))
"""


@pytest.mark.skipif(
    landlock.abi() < 1 or seccomp.library() is None, reason="this kernel has not both layers"
)
@pytest.mark.parametrize("place", ["gpu", "cpu"])
def test_a_sealed_child_loads_a_drivers_late_libraries_and_no_more(
    tmp_path: Path, place: str
) -> None:
    """Beside a library that is loaded others are readable, for a GPU alone, and nothing else there.

    AMD's library changes the mode of its lock files: told that it did, though nothing happened.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    far = tmp_path / "far"
    far.mkdir()
    (tmp_path / "scratch").mkdir()
    (far / "secret.txt").write_text("secret")
    for name in ("libfirst.so", "liblate.so.2"):
        subprocess.run([compiler, "-shared", "-o", far / name, "-xc", "/dev/null"], check=True)
    done = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path, place], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = dict(line.split(": ") for line in done.stdout.splitlines())
    assert told == {
        "late library": "done" if place == "gpu" else "refused",
        "its neighbour": "refused",
        "its folder": "refused",
        "write there": "refused",
        "chmod": "done True" if place == "gpu" else "refused True",
        "chown": "refused",
    }
