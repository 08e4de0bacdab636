"""What a process that reads documents gives up before it reads the first: files to write, programs
to start, the network, and most of the machine's memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from collections.abc import Iterator
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_MODE_FILTER: Final = 2

_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_DENY: Final = 0x00050000 | errno.EPERM
_NUMBER_AT, _MACHINE_AT, _ARGUMENTS_AT = 0, 4, 16
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_MACHINES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# fmt: off
_DENIED: Final = {
    # socket socketpair connect bind listen accept accept4 sendto sendmsg; execve execveat fork
    # vfork clone clone3; ptrace process_vm_* kill tkill pidfd_*; unlink* rename* truncate
    # ftruncate mkdir* rmdir link* symlink* mknod* *chmod* *chown* utimensat creat openat2 setxattr
    # memfd_create; mount umount2 pivot_root chroot unshare setns; bpf perf_event_open *key*
    # io_uring_setup userfaultfd
    "x86_64": (41, 53, 42, 49, 50, 43, 288, 44, 46, 59, 322, 57, 58, 56, 435, 101, 310, 311, 62,
               200, 434, 424, 87, 263, 82, 264, 316, 76, 77, 83, 258, 84, 86, 265, 88, 266, 133,
               259, 90, 91, 268, 92, 93, 94, 260, 280, 85, 437, 188, 319, 165, 166, 155, 161, 272,
               308, 321, 298, 250, 248, 249, 425, 323),
    "aarch64": (198, 199, 203, 200, 201, 202, 242, 206, 211, 221, 281, 220, 435, 117, 270, 271, 129,
                130, 434, 424, 35, 38, 276, 45, 46, 34, 37, 36, 33, 52, 53, 54, 55, 88, 437, 5, 279,
                40, 39, 41, 51, 97, 268, 280, 241, 219, 217, 218, 425, 282),
}
# fmt: on
_OPENS: Final = {"x86_64": ((257, 2), (2, 1)), "aarch64": ((56, 2),)}
"""Calls that open a file, and which argument says how."""
_SIGNALS: Final = {"x86_64": 234, "aarch64": 131}
"""tgkill: a process may end itself by it, and nobody else."""
_OLD_CALLS: Final = 0x40000000


def confine(parent: int, memory_bytes: int) -> bool:
    """Give up what reading needs not. Whether the kernel filters calls as well: it does on Linux,
    on x86-64 and ARM64, and where it was not told to let nobody do so.

    Ends the process when `parent` is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    _be_the_first_to_go()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    return _filtered(libc)


def allow_cpu(seconds: float) -> None:
    """Let this process compute until `seconds` of its own time, and no longer."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, hard))


def _be_the_first_to_go() -> None:
    """When the machine has no memory left, it is this process that ends."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        return  # not on this system: then as any other


def _filtered(libc: ctypes.CDLL) -> bool:
    """Have the kernel refuse calls that reading needs not."""
    machine = platform.machine()
    if machine not in _MACHINES or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    lines = b"".join(_program(machine, os.getpid()))
    kept = ctypes.create_string_buffer(lines, len(lines))
    program = struct.pack("@HP", len(lines) // 8, ctypes.addressof(kept))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program, 0, 0) == 0)


def _program(machine: str, own: int) -> Iterator[bytes]:
    """The filter, line by line. Each test that holds returns at once, so no jump is long."""

    def line(code: int, value: int, skip: int = 0, other: int = 0) -> bytes:
        return struct.pack("@HBBI", code, skip, other, value)

    deny, allow = line(_RETURN, _DENY), line(_RETURN, _ALLOW)
    yield from (line(_LOAD, _MACHINE_AT), line(_EQUAL, _MACHINES[machine], 1), deny)
    yield line(_LOAD, _NUMBER_AT)
    if machine == "x86_64":
        yield from (line(_AT_LEAST, _OLD_CALLS, 0, 1), deny)
    for number in _DENIED[machine]:
        yield from (line(_EQUAL, number, 0, 1), deny)
    for number, argument in _OPENS[machine]:
        yield line(_EQUAL, number, 0, 4)
        yield line(_LOAD, _ARGUMENTS_AT + 8 * argument)
        yield from (line(_ANY_BIT, _WRITING, 0, 1), deny, allow)
    yield line(_EQUAL, _SIGNALS[machine], 0, 4)
    yield line(_LOAD, _ARGUMENTS_AT)
    yield from (line(_EQUAL, own, 1, 0), deny, allow)
    yield allow
