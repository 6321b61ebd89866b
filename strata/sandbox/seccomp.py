"""The filter of system calls (seccomp) of a sandboxed process: no programs, processes, sockets or signals."""

from __future__ import annotations

import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from typing import Final

_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_CLONE_THREAD: Final = 0x10000
_X32: Final = 0x40000000
"""Set in the numbers of calls of the 32-bit interface of x86-64, which numbers the same calls anew."""

_COMMON: Final = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "pidfd_open": 434,
    "clone3": 435,
    "pidfd_getfd": 438,
}
"""Numbers that all architectures share."""

_X86_64: Final = {
    "shmget": 29,
    "shmat": 30,
    "shmctl": 31,
    "socket": 41,
    "connect": 42,
    "accept": 43,
    "bind": 49,
    "listen": 50,
    "socketpair": 53,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "kill": 62,
    "semget": 64,
    "semop": 65,
    "semctl": 66,
    "msgget": 68,
    "msgsnd": 69,
    "msgrcv": 70,
    "msgctl": 71,
    "readlink": 89,
    "ptrace": 101,
    "rt_sigqueueinfo": 129,
    "mknod": 133,
    "personality": 135,
    "pivot_root": 155,
    "chroot": 161,
    "mount": 165,
    "umount2": 166,
    "reboot": 169,
    "init_module": 175,
    "tkill": 200,
    "semtimedop": 220,
    "tgkill": 234,
    "mq_open": 240,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "mknodat": 259,
    "readlinkat": 267,
    "unshare": 272,
    "accept4": 288,
    "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "finit_module": 313,
    "bpf": 321,
    "execveat": 322,
    "userfaultfd": 323,
}
_AARCH64: Final = {
    "mknodat": 33,
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "chroot": 51,
    "readlinkat": 78,
    "personality": 92,
    "unshare": 97,
    "kexec_load": 104,
    "init_module": 105,
    "ptrace": 117,
    "kill": 129,
    "tkill": 130,
    "tgkill": 131,
    "rt_sigqueueinfo": 138,
    "reboot": 142,
    "mq_open": 180,
    "msgget": 186,
    "msgctl": 187,
    "msgrcv": 188,
    "msgsnd": 189,
    "semget": 190,
    "semctl": 191,
    "semtimedop": 192,
    "semop": 193,
    "shmget": 194,
    "shmctl": 195,
    "shmat": 196,
    "socket": 198,
    "socketpair": 199,
    "bind": 200,
    "listen": 201,
    "accept": 202,
    "connect": 203,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "clone": 220,
    "execve": 221,
    "rt_tgsigqueueinfo": 240,
    "perf_event_open": 241,
    "accept4": 242,
    "name_to_handle_at": 264,
    "open_by_handle_at": 265,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "finit_module": 273,
    "bpf": 280,
    "execveat": 281,
    "userfaultfd": 282,
}
_MACHINES: Final[Mapping[str, tuple[int, Mapping[str, int]]]] = {
    "x86_64": (0xC000003E, _X86_64),
    "aarch64": (0xC00000B7, _AARCH64),
}
"""By machine: the number of its architecture (linux/audit.h), and its calls by name."""


def calls(machine: str) -> Mapping[str, int] | None:
    """Return the numbers of the filtered calls by name; None for a machine whose calls are not known."""
    found = _MACHINES.get(machine)
    return None if found is None else {**found[1], **_COMMON}


def program(machine: str | None = None, pid: int | None = None) -> bytes | None:
    """Return the filter as a program of the kernel's; None for a machine whose calls are not known.

    Threads can be made and signals sent to the process's own threads (``abort`` does that); any other call of
    the tables fails with EPERM. ``clone3`` fails with ENOSYS: its flags are in memory, where a filter cannot
    see them, and the C library then uses ``clone``.

    Args:
        machine: Machine as :func:`platform.machine` names it; by default this one.
        pid: Process that the filter is for; by default this one.
    """
    machine = machine or platform.machine()
    numbers = calls(machine)
    if numbers is None:
        return None
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, _MACHINES[machine][0], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _refuse(errno.EPERM),
        *_unless(numbers["clone"], _HAS_BITS, _CLONE_THREAD),
        *_unless(numbers["tgkill"], _EQUAL, os.getpid() if pid is None else pid),
        _instruction(_EQUAL, numbers["clone3"], 0, 1),
        _refuse(errno.ENOSYS),
    ]
    for number in sorted(set(numbers.values()) - {numbers[name] for name in ("clone", "clone3", "tgkill")}):
        code += [_instruction(_EQUAL, number, 0, 1), _refuse(errno.EPERM)]
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def _unless(number: int, test: int, value: int) -> Iterable[bytes]:
    """Return the code that permits a call if its first argument passes a test, and else refuses it."""
    return (
        _instruction(_EQUAL, number, 0, 4),
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(test, value, 0, 1),
        _instruction(_RETURN, _ALLOW),
        _refuse(errno.EPERM),
    )


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
