"""The memory and the processors of the machine are those that this process may use."""

import os
from pathlib import Path

import pytest

from strata.tenants.budgets.machine import machine_bytes, processors

MIB = 1024 * 1024
EVERYTHING = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def tree(root: Path, files: dict[str, str]) -> Path:
    """Make the files of a system: its control groups, and what ``/proc/self`` says of them."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_the_machines_memory_is_that_of_its_control_group(tmp_path: Path) -> None:
    """The limit of cgroup v1 or v2 counts; without one, the machine's memory."""
    everything = machine_bytes(tmp_path)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.write_text("max\n")
    assert everything == machine_bytes(tmp_path)
    limit.write_text("1048576\n")
    assert 1048576 == machine_bytes(tmp_path)


V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V1_CPU = "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
CONTAINER = "35 31 0:32 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (  # systemd's MemoryMax of a service
            {
                "proc/self/cgroup": "0::/system.slice/strata.service",
                "proc/self/mountinfo": V2,
                "sys/fs/cgroup/system.slice/strata.service/memory.max": str(MIB),
            },
            MIB,
        ),
        (  # a limit on a group above the process's own
            {
                "proc/self/cgroup": "0::/pods/p1/c1",
                "proc/self/mountinfo": V2,
                "sys/fs/cgroup/pods/p1/memory.max": str(MIB),
                "sys/fs/cgroup/pods/p1/c1/memory.max": str(2 * MIB),
            },
            MIB,
        ),
        (  # version 1, whose limit without one is a large number
            {
                "proc/self/cgroup": "4:memory:/jobs/j1\n1:cpu:/\n0::/",
                "proc/self/mountinfo": V1,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/jobs/j1/memory.limit_in_bytes": str(MIB),
            },
            MIB,
        ),
        (  # a container that sees its own group as the top
            {
                "proc/self/cgroup": "4:memory:/docker/c1/nested",
                "proc/self/mountinfo": CONTAINER,
                "sys/fs/cgroup/memory/nested/memory.limit_in_bytes": str(MIB),
            },
            MIB,
        ),
        (  # a group outside of what is mounted
            {
                "proc/self/cgroup": "0::/../elsewhere",
                "proc/self/mountinfo": V2,
                "sys/fs/elsewhere/memory.max": "1",
                "sys/fs/cgroup/memory.max": str(MIB),
            },
            MIB,
        ),
        (  # another process's limit
            {
                "proc/self/cgroup": "0::/mine",
                "proc/self/mountinfo": V2,
                "sys/fs/cgroup/mine/memory.max": "max",
                "sys/fs/cgroup/other/memory.max": str(MIB),
            },
            EVERYTHING,
        ),
        (  # no /proc, version 1
            {"sys/fs/cgroup/memory/memory.limit_in_bytes": str(MIB)},
            MIB,
        ),
    ],
)
def test_the_memory_limit_of_every_group_of_the_process_counts(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    """The least of the process's own group's limit, and of all groups above it, is the machine's memory."""
    assert expected == machine_bytes(tree(tmp_path, files))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "proc/self/cgroup": "0::/s",
                "proc/self/mountinfo": V2,
                "sys/fs/cgroup/s/cpu.max": "200000 100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "0::/s",
                "proc/self/mountinfo": V2,
                "sys/fs/cgroup/s/cpu.max": "150000 100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "0::/s",
                "proc/self/mountinfo": V2,
                "sys/fs/cgroup/s/cpu.max": "5000 100000",
            },
            1,
        ),
        (
            {"proc/self/cgroup": "0::/s", "proc/self/mountinfo": V2, "sys/fs/cgroup/s/cpu.max": "max 100000"},
            6,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/s",
                "proc/self/mountinfo": V1_CPU,
                "sys/fs/cgroup/cpu,cpuacct/s/cpu.cfs_quota_us": "300000",
                "sys/fs/cgroup/cpu,cpuacct/s/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "2:cpu,cpuacct:/s",
                "proc/self/mountinfo": V1_CPU,
                "sys/fs/cgroup/cpu,cpuacct/s/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/s/cpu.cfs_period_us": "100000",
            },
            6,
        ),
        ({}, 6),
    ],
)
def test_processors_are_those_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int
) -> None:
    """The processors of the machine do not count: the process may use those of its affinity and quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(6)))
    assert expected == processors(tree(tmp_path, files))
