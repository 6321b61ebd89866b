"""A footer that would end the process ends another one, and is refused by the file's name."""

import errno
import io
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strata.outcomes import Reason, RefusalError
from strata.tables.files import footer_check
from strata.tables.files.footer_check import DeadlyFooterError, FooterCheck
from strata.tables.files.footers import open_parquet, read_tail


@pytest.fixture
def check():
    found = FooterCheck()
    yield found
    found.close()


def parquet(rows: int = 100) -> bytes:
    out = io.BytesIO()
    table = pa.table(
        {"a": range(rows), "s": [str(i) for i in range(rows)], "d": [i / 3 for i in range(rows)]}
    )
    pq.write_table(table, out, row_group_size=50)
    return out.getvalue()


def tail() -> bytes:
    return read_tail(pa.BufferReader(parquet()))


def run(check: FooterCheck, footer: bytes) -> None:
    with check.checking(footer):
        pass


def test_a_sound_file_is_read_as_before(tmp_path: Path) -> None:
    """Metadata and rows of a checked file are pyarrow's, also with a footer longer than the first read."""
    table = pa.table({f"c{index}": range(3000) for index in range(20)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20)
    with pa.OSFile(str(tmp_path / "t.parquet")) as source, open_parquet(source) as file:
        assert file.metadata.serialized_size > 64 << 10
        assert pq.read_metadata(tmp_path / "t.parquet").equals(file.metadata)
        assert table.equals(file.read())


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100, b"\xff\xff\xff\x7fPAR1", parquet()[:-1]])
def test_a_file_without_a_footer_is_an_error(data: bytes) -> None:
    """Neither too short, nor of another format, nor one whose footer is longer than itself."""
    with pytest.raises(ValueError, match=r"magic|longer"), open_parquet(pa.BufferReader(data)):
        pass


def test_one_process_checks_footer_after_footer(check: FooterCheck) -> None:
    """A process is used again; two checks at a time have one each."""
    check.prepare()
    [first] = check._idle
    for _ in range(3):
        run(check, tail())
    assert [first] == check._idle
    with check.checking(tail()), check.checking(tail()):
        assert [] == check._idle
    assert 2 == len(check._idle)


def test_a_process_that_was_ended_by_something_else_is_replaced(check: FooterCheck) -> None:
    """The footer is checked once more by a new process, and passes."""
    check.prepare()
    [first] = check._idle
    os.kill(first.process.pid, signal.SIGKILL)
    run(check, tail())
    [second] = check._idle
    assert first is not second


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError])
def test_an_error_in_the_body_is_the_bodys(check: FooterCheck, error: type[Exception]) -> None:
    """It is raised, and the answer to its footer is not taken for the next one's."""
    with pytest.raises(error), check.checking(tail()):
        raise error
    [left] = check._idle
    run(check, tail())
    assert [left] == check._idle


def test_a_footer_that_takes_too_long_is_refused_and_remembered(
    check: FooterCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not answer is ended; the same footer is then refused without another one."""
    monkeypatch.setattr(footer_check, "CHECK_SECONDS", 0.05)
    started = []
    real = footer_check._Checker.start.__func__

    def stopped(cls):
        checker = real(cls)
        os.kill(checker.process.pid, signal.SIGSTOP)
        started.append(checker)
        return checker

    monkeypatch.setattr(footer_check._Checker, "start", classmethod(stopped))
    for _ in range(3):
        with pytest.raises(DeadlyFooterError):
            run(check, tail())
    assert [-signal.SIGKILL] * footer_check.ATTEMPTS == [one.process.returncode for one in started]


def test_a_lack_of_processes_is_no_fault_of_the_file(
    check: FooterCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none can be started the request is told to come back; the footer is not refused for good."""

    def none(*_args: object, **_more: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", none)
        check.prepare()
        with pytest.raises(RefusalError) as caught:
            run(check, tail())
    assert (Reason.UNAVAILABLE, 5) == (caught.value.refused.reason, caught.value.refused.retry_after)
    run(check, tail())


MUTATE = """
    import random, sys
    from pathlib import Path
    import pyarrow as pa
    from strata.tables.files.footers import open_parquet
    folder = Path(sys.argv[1])
    for path in sorted(folder.iterdir()):
        try:
            with pa.OSFile(str(path)) as source, open_parquet(source) as file:
                meta = file.metadata
                for index in range(meta.num_row_groups):
                    for leaf in range(meta.num_columns):
                        chunk = meta.row_group(index).column(leaf)
                        found = chunk.statistics if chunk.is_stats_set else None
                        if found is not None and found.has_min_max:
                            found.min, found.max
                        chunk.total_uncompressed_size
        except Exception as error:
            print(path.name, type(error).__name__)
        else:
            print(path.name, "read")
"""


def test_no_mutated_footer_ends_the_process(tmp_path: Path) -> None:
    """Of 400 footers with one to three changed bytes each is read or refused, some for what they would end.

    A program of its own reads them, since one that slipped through would end this one.
    """
    data = parquet()
    length = struct.unpack("<I", data[-8:-4])[0]
    footer = data[-8 - length : -8]
    for seed in range(400):
        drawn = random.Random(seed)
        changed = bytearray(footer)
        for _ in range(drawn.choice((1, 1, 2, 3))):
            changed[drawn.randrange(length)] = drawn.randrange(256)
        (tmp_path / f"{seed:05}").write_bytes(data[: -8 - length] + changed + data[-8:])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MUTATE), tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    found = [line.split()[1] for line in done.stdout.splitlines() if line[:5].isdigit()]
    assert 400 == len(found)
    assert "DeadlyFooterError" in found
    assert "read" in found
