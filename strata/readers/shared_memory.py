"""Memory that the server shares with a reader: slots for encoded rows.

The server makes it and never lets it shrink, so that no reader can take pages away that the server reads
(which would end the server). A slot is in use until the last buffer over it is gone.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque
from typing import Any

import pyarrow as pa

SLOTS = 4
"""Slots of a reader: a slice being read, and some that wait to be written or are sent to clients."""

SLOT_BYTES = 8 << 20
"""Bytes of a slot; larger slices get memory of their own."""

SEALED = sum(getattr(fcntl, f"F_SEAL_{name}", 0) for name in ("SHRINK", "GROW", "SEAL"))
"""The size of the memory never changes (memfd_create(2), "File-sealing"); 0 where there is no such memory."""


class OwnMemoryError(Exception):
    """Memory that a reader made for a slice is not as the server demands."""


class _InUse:
    """Keeps a slot in use while a buffer refers to it."""

    __slots__ = ("_free", "_ring", "_slot")

    def __init__(self, ring: Any, free: deque[int], slot: int) -> None:
        self._ring, self._free, self._slot = ring, free, slot

    def __del__(self) -> None:
        self._free.append(self._slot)


class Slots:
    """Slots of one reader, in the server.

    Attributes:
        descriptor: Descriptor of the memory, for the reader; closed by :meth:`handed`.
    """

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("strata-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, SLOTS * SLOT_BYTES)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, SEALED)
            self._memory = pa.py_buffer(mmap.mmap(self.descriptor, SLOTS * SLOT_BYTES, prot=mmap.PROT_READ))
        except BaseException:  # raised again: no other code closes it
            os.close(self.descriptor)
            raise
        self._free: deque[int] = deque(range(SLOTS))

    def handed(self) -> None:
        """Close the descriptor: the reader has its own."""
        os.close(self.descriptor)

    def take(self) -> int | None:
        """Return the free slot that was used last, whose pages are in memory; None if all are in use."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def give_back(self, slot: int) -> None:
        """Give back a slot to which no buffer refers."""
        self._free.append(slot)

    def buffers(self, slot: int, parts: list[tuple[int, int]]) -> list[pa.Buffer]:
        """Return buffers over parts of a slot, which is free when all of them are gone.

        Args:
            slot: A slot that was taken.
            parts: Offset and length in bytes of each, inside the slot.
        """
        in_use = _InUse(self._memory, self._free, slot)
        start = self._memory.address + slot * SLOT_BYTES
        return [pa.foreign_buffer(start + offset, nbytes, in_use) for offset, nbytes in parts]


def adopted(descriptor: int) -> pa.Buffer:
    """Map the memory that a reader made for one slice; closes the descriptor.

    Raises:
        OwnMemoryError: If the reader could still shrink it.
        OSError: If it cannot be mapped.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        if not seals & fcntl.F_SEAL_SHRINK:
            raise OwnMemoryError("a reader's memory is not sealed")
        return pa.py_buffer(mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)


def own_memory(nbytes: int) -> tuple[int, mmap.mmap]:
    """Make memory for one slice, in a reader; returns its sealed descriptor and its map."""
    descriptor = os.memfd_create("strata-slice", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, nbytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALED)
    return descriptor, mmap.mmap(descriptor, nbytes)
