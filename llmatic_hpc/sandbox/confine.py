"""Take from a process what it must not have.

:func:`enter` is called by a freshly forked child before it sees a line of what a model wrote. It
gives the child its own session, no descriptors but its reply pipe, an empty standard input and
output, an environment without secrets, a working folder of its own, limits on file size,
processes, descriptors and CPU time; the child cannot gain privileges, dies with its parent, and
is the first that the kernel sacrifices when memory runs out. Whatever it leaves behind is found
and killed by the warm parent.

:func:`seal` comes last, when everything of ours is in place, and adds the layers of
:data:`LAYERS`, each of which the kernel may lack:

========  =======================================================================================
landlock  reads only what the interpreter and torch need, writes only the working folder; from
          ABI 4 (Linux 6.7) no TCP, from ABI 6 (Linux 6.12) no abstract UNIX sockets of others
          and no signals to others
seccomp   starts no process and no program, opens no socket, traces and signals nobody, changes
          no limits, mounts nothing (libseccomp, part of almost every distribution)
========  =======================================================================================

What each layer stops alone, of what it claims (python -m tests.hostile.claims; ABI 7, root):

========  ==============  ===========  ==========
class     gate and child  child alone  gate alone
========  ==============  ===========  ==========
escape    202 of 202      201 of 201   201 of 201
resource  67 of 67        56 of 56     36 of 36
forge     52 of 52        52 of 52     35 of 35
crash     48 of 48        48 of 48     40 of 40
========  ==============  ===========  ==========

Not covered: what the environment lets everybody read below the folders of the interpreter and
of the system's libraries; on a GPU, what its driver does for whoever may open the device, and
threads that the driver started before the seal, which seccomp binds and Landlock does not.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..config import accelerators
from . import landlock, seccomp

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

REPLY_DESCRIPTOR = 3
"""File descriptor of a child's reply pipe."""

_ENVIRONMENT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH",
    "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX",
)  # fmt: skip
_ENVIRONMENT_PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "MALLOC_")
_MALLOC = "glibc.malloc." + ":glibc.malloc.".join((
    "hugetlb=1",                    # 2 MiB pages where the kernel gives them to who asks
    f"mmap_threshold={32 << 20}",   # the most that is allowed
    f"trim_threshold={256 << 20}",
))  # fmt: skip
"""Each step of a training frees what the next one allocates. Given back to the system it would be
asked for again page by page."""


def environment(*, threads: int, gpu: bool) -> dict[str, str]:
    """Return the environment of a warm parent: an allow-list, thus no tokens and no scheduler.

    Thread counts have to stand there before torch is imported. ``OMP_WAIT_POLICY`` makes idle
    OpenMP threads sleep instead of spinning on cores that other workers need.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT
        or name.startswith(_ENVIRONMENT_PREFIXES)
        or accelerators.is_kept(name)
    }
    package_root = str(Path(__file__).resolve().parents[2])
    paths = [package_root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    if not gpu:
        kept |= accelerators.hidden()
    return kept | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TORCH_DISABLE_NATIVE_JIT": "1",  # kernels that call a compiler, which no child may
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", _MALLOC),
    }


def become_subreaper() -> None:
    """Adopt orphans among our descendants, so that they can be found."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def enter(
    *, reply: int, scratch: Path, parent: int, file_bytes: int, cpu_seconds: int, processes: int
) -> None:
    """Confine the calling process, a fork without threads. Raises ``OSError``.

    ``reply`` moves to ``REPLY_DESCRIPTOR``; every other descriptor is closed. ``scratch``
    becomes the working folder, ``parent`` is the process to die with. The rest are limits, 0 for
    none; ``processes`` are all of the user's, and the kernel ignores it for root.
    """
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could say so
        os._exit(1)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # keeps our orphans apart from those of other children
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(reply, REPLY_DESCRIPTOR, inheritable=False)
    os.closerange(REPLY_DESCRIPTOR + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir(scratch)
    os.umask(0o077)
    os.environ["HOME"] = os.environ["TMPDIR"] = str(scratch)
    for name in accelerators.CACHES:
        os.environ[name] = str(scratch)
    tempfile.tempdir = None
    sys.setrecursionlimit(1000)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 1024)
    if file_bytes:
        _limit(resource.RLIMIT_FSIZE, file_bytes)
    if cpu_seconds:
        _limit(resource.RLIMIT_CPU, cpu_seconds)
    if processes:
        _limit(resource.RLIMIT_NPROC, processes)


LAYERS = ("landlock", "seccomp")
"""Layers that :func:`seal` can add."""

_CAPABILITIES_KEPT = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root reads an interpreter that is not its own."""


def available() -> frozenset[str]:
    """Return those of :data:`LAYERS` that this machine has."""
    found = {"landlock"} if landlock.abi() > 0 else set()
    return frozenset(found | ({"seccomp"} if seccomp.library() is not None else set()))


def prepare() -> None:
    """Find out, in the warm parent, what each of its children needs to seal itself."""
    available()
    _environment_folders()


def seal(layers: Iterable[str], *, gpu: bool) -> None:
    """Add ``layers`` to what confines the calling process, for good. Raises ``OSError``."""
    wanted = frozenset(layers)
    if os.geteuid() == 0:
        _drop_capabilities()
    if "landlock" in wanted:
        landlock.restrict(
            read=_readable(gpu=gpu),
            write=[Path.cwd()],
            devices=[Path("/dev/null"), *(_gpu_devices() if gpu else ())],
        )
    if "seccomp" in wanted:
        seccomp.restrict(gpu=gpu)


def _readable(*, gpu: bool) -> list[Path]:
    """Return the files and folders that the interpreter and torch may still open."""
    found = [*_environment_folders(), *(Path(f) for f in accelerators.driver_files() if gpu)]
    return [*found, *(_libraries(found) if gpu else ())]


@functools.cache
def _environment_folders() -> tuple[Path, ...]:
    """Return what is readable to children without a GPU, the same for all of this process."""
    named = [sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib")]
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    linked = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    system = [
        "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache",
        "/dev/zero", "/dev/urandom", "/dev/random", "/proc/self", "/proc/cpuinfo", "/proc/meminfo",
        "/sys/devices/system",
    ]  # fmt: skip
    own = Path(__file__).resolve().parents[1]
    texts = dict.fromkeys([*named, *packages, *linked, *system])
    return (own, *(Path(text) for text in texts if text))


def _libraries(readable: list[Path]) -> list[Path]:
    """Return the libraries beside those that are loaded from elsewhere than ``readable`` folders.

    Drivers load more of them later. Files and not their folders: one may be somebody's home.
    """
    maps = Path("/proc/self/maps").read_text().split("\n")
    loaded = {Path(line[line.find("/") :]) for line in maps if ".so" in line}
    resolved = [path.resolve() for path in readable]
    folders = {path.parent for path in loaded if path.is_absolute()}
    new = sorted(f for f in folders if not any(f.is_relative_to(known) for known in resolved))
    return [path for folder in new for path in folder.glob("*.so*") if path.is_file()]


def _gpu_devices() -> list[Path]:
    return [*accelerators.device_files(), Path("/dev/shm")]


def _drop_capabilities() -> None:
    """Take from root its powers over others' processes, devices and limits."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(*[_CAPABILITIES_KEPT] * 2, 0, 0, 0, 0)
    landlock.libc("capset", "capset", header, data)


def limit_memory(extra_bytes: int) -> None:
    """Let the address space grow by ``extra_bytes`` from here.

    Only on a CPU: a CUDA driver reserves address space by the terabyte.
    """
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + extra_bytes)


def resident_bytes(pid: int) -> int:
    """Return the bytes that a process holds for itself alone; 0 for one that is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        return 1024 * int(status.split("RssAnon:", 1)[1].split()[0])
    return 0


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process without threads."""
    with contextlib.suppress(OSError):
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    found = []  # on a kernel without CONFIG_PROC_CHILDREN
    for process in _processes():
        with contextlib.suppress(OSError):
            # The command, in parentheses, may itself contain any character.
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            found += [int(process.name)] * (int(parent) == pid)
    return found


def tasks_of_user() -> int:
    """Count processes and threads of this user on this machine, as ``RLIMIT_NPROC`` does."""
    count = 0
    for process in _processes():
        with contextlib.suppress(OSError):
            if process.stat().st_uid == os.getuid():
                count += len(os.listdir(process / "task"))
    return count


def _processes() -> list[Path]:
    return [path for path in Path("/proc").iterdir() if path.name.isdigit()]


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def _prctl(option: int, value: int) -> None:
    landlock.libc(f"prctl({option})", "prctl", option, *map(ctypes.c_ulong, (value, 0, 0, 0)))
