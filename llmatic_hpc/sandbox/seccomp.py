"""seccomp: system calls that no network needs are refused, through the library libseccomp.

The list names what is refused; everything else stays as it is. Refused calls fail with
``EPERM``, which Python reports as ``PermissionError``. Threads can be started, processes not.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

from ..source.allowlist import words

REFUSED = words("""
    execve execveat fork vfork ptrace process_vm_readv process_vm_writev process_madvise
    kcmp pidfd_open pidfd_getfd pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo tkill
    socketpair connect bind listen accept accept4 sendto sendmsg sendmmsg recvfrom recvmsg recvmmsg
    mount umount2 move_mount open_tree fsopen fsmount fsconfig fspick mount_setattr pivot_root
    chroot unshare setns bpf perf_event_open userfaultfd io_uring_setup io_uring_enter
    io_uring_register add_key request_key keyctl open_by_handle_at name_to_handle_at kexec_load
    kexec_file_load init_module finit_module delete_module reboot sethostname setdomainname
    swapon swapoff quotactl quotactl_fd acct settimeofday clock_settime clock_adjtime adjtimex
    syslog vhangup iopl ioperm fanotify_init fanotify_mark inotify_init inotify_init1
    shmget shmat shmctl msgget msgsnd msgrcv msgctl semget semop semctl semtimedop mq_open
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset
    chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes utimensat futimesat
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr mknod mknodat
    setrlimit setpriority sched_setscheduler sched_setattr ioprio_set personality
""")
"""System calls that fail whatever their arguments are. Modes, owners and times of files are among
them since Landlock does not cover these."""

_MODES = words("chmod fchmod fchmodat fchmodat2")

_CLONE_THREAD = 0x00010000
_AF_UNIX = 1
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_TSYNC = 4
"""SCMP_FLTATR_CTL_TSYNC."""
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000

_NOT_EQUAL, _EQUAL, _MASKED = 1, 4, 7


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


@cache
def library() -> Any:
    """Load libseccomp; None where it is not installed or the kernel has no filters."""
    try:
        found = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        return None
    found.seccomp_init.restype = ctypes.c_void_p
    found.seccomp_init.argtypes = [ctypes.c_uint32]
    found.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]  # fmt: skip
    found.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    for function in (found.seccomp_load, found.seccomp_release):
        function.argtypes = [ctypes.c_void_p]
    return found if "errno" in actions else None


def restrict(*, gpu: bool) -> None:
    """Let refused system calls fail from here on, for this process and all its threads.

    ``gpu``: local sockets stay, for a GPU's driver may need them, and a change of a file's mode
    does nothing instead of failing: AMD's library changes its lock files'. Needs
    ``PR_SET_NO_NEW_PRIVS``. Raises ``OSError``.
    """
    seccomp = library()
    if seccomp is None:
        raise OSError(errno.ENOSYS, "seccomp: neither libseccomp nor filters in the kernel")
    context = seccomp.seccomp_init(_ALLOW)
    if not context:
        raise OSError(errno.ENOMEM, "seccomp: no filter could be made")
    try:
        # All threads of the process, those of a GPU's driver, too.
        _check(seccomp.seccomp_attr_set(context, _TSYNC, 1), "its threads")
        local = words("socketpair connect sendto sendmsg recvfrom recvmsg") if gpu else ()
        for name in sorted(REFUSED - set(local)):
            _refuse(seccomp, context, name, error=0 if gpu and name in _MODES else errno.EPERM)
        sockets = [(0, _NOT_EQUAL, _AF_UNIX, 0)] if gpu else []
        _refuse(seccomp, context, "socket", *sockets)
        # Threads of this process, and no process of their own; clone3 hides its flags.
        _refuse(seccomp, context, "clone", (0, _MASKED, _CLONE_THREAD, 0))
        _refuse(seccomp, context, "clone3", error=errno.ENOSYS)
        for name in ("kill", "tgkill"):
            _refuse(seccomp, context, name, (0, _NOT_EQUAL, os.getpid(), 0))
        _refuse(seccomp, context, "prlimit64", (2, _NOT_EQUAL, 0, 0))
        for option in (_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER):
            _refuse(seccomp, context, "prctl", (0, _EQUAL, option, 0))
        _check(seccomp.seccomp_load(context), "its filter")
    finally:
        seccomp.seccomp_release(context)


def _refuse(
    seccomp: Any, context: Any, name: str, *comparisons: tuple[int, int, int, int],
    error: int = errno.EPERM,
) -> None:  # fmt: skip
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    if number == -1:  # older than the call, or another architecture
        return
    array = (_Comparison * max(len(comparisons), 1))(*(_Comparison(*c) for c in comparisons))
    _check(
        seccomp.seccomp_rule_add_array(context, _FAIL | error, number, len(comparisons), array),
        name,
    )


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"seccomp: {what}: {os.strerror(-result)}")
