"""Find the module-level names that compiled Python code reads, binds and deletes.

The compiler has decided every question of scope by then: the bytecode says which name is a local, which one
belongs to the module, and in which order they are used. A data-flow analysis of it finds the names that may
be loaded before the code itself has bound them: those it reads of others. Every result errs on the side of
more.

Only the standard library is imported: this module also runs in the analyser's child process.
"""

from __future__ import annotations

import dis
import heapq
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from types import CodeType
from typing import Final

_SEED, _BOUND, _GONE = 1, 2, 4
_ALL: Final = 7

_LOADS: Final = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
_STORES: Final = {"STORE_NAME", "STORE_GLOBAL"}
_DELETES: Final = {"DELETE_NAME", "DELETE_GLOBAL"}
_OF_THE_BLOCK: Final = {"LOAD_NAME", "STORE_NAME", "DELETE_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_RETURNS: Final = {"RETURN_VALUE", "RETURN_CONST"}
_NO_NEXT: Final = {
    *_RETURNS, "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT",
}  # fmt: skip
_BETWEEN_FUNCTION_AND_STORE: Final = {"MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE", "CACHE"}
_BETWEEN_CLASS_AND_STORE: Final = {*_BETWEEN_FUNCTION_AND_STORE, "PRECALL", "CALL", "PUSH_NULL"}
_NEVER_RAISES: Final = {
    "STORE_NAME",
    "STORE_GLOBAL",
    "LOAD_CONST",
    "NOP",
    "POP_TOP",
    "PUSH_NULL",
    "COPY",
    "SWAP",
}
"""Instructions that no exception comes from, where the module's names are in a plain dict."""

_AT_ONCE: Final = {"<listcomp>", "<setcomp>", "<dictcomp>"}
"""Inner code that is called where it is made, and never again."""

_OPTIMIZED: Final = 0x01
"""Flag of a function's code, which the body of a class has not (``inspect.CO_OPTIMIZED``)."""

_HIDDEN: Final = {"__annotations__", "__annotate__", "__conditional_annotations__", "__doc__"}
"""Names that the compiler uses for itself."""


@dataclass
class NameFlow:
    """The names of the module that code uses.

    Attributes:
        reads: Names that may be loaded before the code binds them.
        defines: Names that may be bound at its end.
        keeps: Names of ``defines`` and ``deletes`` that may be untouched at its end.
        deletes: Names that may be deleted at its end.
        later: Names that functions and classes made by it load when they are called.
        later_binds: Names that such functions bind or delete when they are called.
        loads: All names that it, its functions or its classes load.
    """

    reads: set[str] = field(default_factory=set)
    defines: set[str] = field(default_factory=set)
    keeps: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    later_binds: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)


def name_flow(code: CodeType) -> NameFlow:
    """Return the names that the code of a module uses.

    Raises:
        RecursionError: If functions are nested too deeply.
    """
    flow = _Flow(code, "module")
    flow.run()
    found = NameFlow(reads=flow.reads, loads=flow.loads)
    end = flow.end or flow.anywhere  # code that always raises ends nowhere
    flow.resolve(flow.pending, end)
    found.later, found.later_binds = flow.later, flow.later_binds
    for name, place in flow.slots.items():
        state = end >> place & _ALL
        if state & _BOUND:
            found.defines.add(name)
        if state & _GONE:
            found.deletes.add(name)
        if state & _SEED and state != _SEED:
            found.keeps.add(name)
    for names in (found.reads, found.defines, found.keeps, found.deletes, found.later, found.later_binds):
        names.difference_update(_HIDDEN)
    return found


class _Flow:
    """The data flow of one code object: what each name may be at each instruction.

    A name of the module has a slot of three bits in a state: it may be as it was (seed), bound, or deleted. A
    name of a class body has a slot of its own, since a load that finds nothing there goes on to the module.
    """

    def __init__(self, code: CodeType, kind: str) -> None:
        self.kind = kind
        self.instructions = [one for one in dis.get_instructions(code) if one.opname != "CACHE"]
        self.places = {one.offset: index for index, one in enumerate(self.instructions)}
        self.handlers = self._handlers(code)
        self.slots: dict[str, int] = {}
        self.block_slots: dict[str, int] = {}
        self.reads: set[str] = set()
        self.loads: set[str] = set()
        self.binds: set[str] = set()
        self.deleted: set[str] = set()
        self.later: set[str] = set()
        self.later_binds: set[str] = set()
        self.pending: dict[str, _Inner] = {}
        self.inner: dict[int, _Inner] = {}
        self.owner: dict[int, str] = {}
        self.end = self.anywhere = 0
        self._look()
        self.start = sum(_SEED << place for place in (*self.slots.values(), *self.block_slots.values()))

    def _handlers(self, code: CodeType) -> dict[int, int]:
        """Return the instruction that an exception of each instruction goes to."""
        found = {}
        offsets = [one.offset for one in self.instructions]
        # The table's only reader in the standard library.
        for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]  # noqa: SLF001
            first, behind = bisect_left(offsets, entry.start), bisect_left(offsets, entry.end)
            found.update(dict.fromkeys(range(first, behind), self.places[entry.target]))
        return found

    def _slot(self, name: str, *, block: bool) -> int:
        slots = self.block_slots if block else self.slots
        return slots.setdefault(name, 3 * (len(self.slots) + len(self.block_slots)))

    def _look(self) -> None:
        """Note the code's names and inner code, before the flow."""
        for index, one in enumerate(self.instructions):
            if one.opname in _LOADS:
                self.loads.add(one.argval)
            elif one.opname in _STORES | _DELETES:
                block = self.kind == "class" and one.opname in _OF_THE_BLOCK
                self._slot(one.argval, block=block)
                if not block:
                    (self.binds if one.opname in _STORES else self.deleted).add(one.argval)
            elif isinstance(one.argval, CodeType):
                self._look_inside(index, one.argval)

    def _look_inside(self, index: int, code: CodeType) -> None:
        is_class = not code.co_flags & _OPTIMIZED
        inner = self.inner[index] = _Inner.of(code, "class" if is_class else "function")
        self.loads |= inner.loads | inner.later | inner.raw
        if code.co_name not in _AT_ONCE:
            self.later |= inner.later if is_class else inner.loads | inner.later
            self.later_binds |= inner.later_binds if is_class else inner.binds | inner.deletes
        for name in inner.binds | inner.deletes | inner.later_binds:
            self._slot(name, block=False)
        self.binds |= inner.binds
        self.deleted |= inner.deletes
        if self.kind == "function":  # what it makes may be called in the same call
            return
        between = _BETWEEN_CLASS_AND_STORE if is_class else _BETWEEN_FUNCTION_AND_STORE
        for following in range(index + 1, len(self.instructions)):
            one = self.instructions[following]
            if one.opname in _STORES:
                self.owner[index] = one.argval
                known = self.pending.setdefault(one.argval, _Inner())
                known.add(inner, later_only=is_class)
                return
            named = is_class and one.opname == "LOAD_CONST" and isinstance(one.argval, str)
            if not named and one.opname not in between:
                return

    def run(self) -> None:
        """Let states flow until nothing changes, then read what each load may meet."""
        entries: dict[int, int] = {0: self.start}
        leaders = self._leaders()
        rank = self._ranks(leaders)
        waiting, queued = [(0, 0)], {0}
        while waiting:
            _, index = heapq.heappop(waiting)
            queued.discard(index)
            for target, state in self._pass(index, entries[index], leaders).items():
                merged = entries.get(target, 0) | state
                if merged != entries.get(target):
                    entries[target] = merged
                    if target not in queued:
                        queued.add(target)
                        heapq.heappush(waiting, (rank[target], target))

    def _ranks(self, leaders: set[int]) -> dict[int, int]:
        """Return blocks in reverse postorder: without loops, each stands behind all that lead to it.

        In this order nearly every block is gone through once, or once for each loop around it.
        """
        done: list[int] = []
        seen = {0}
        way = [(0, iter(self._following(0, leaders)))]
        while way:
            block, following = way[-1]
            target = next((one for one in following if one not in seen), None)
            if target is None:
                done.append(block)
                way.pop()
            else:
                seen.add(target)
                way.append((target, iter(self._following(target, leaders))))
        return {block: place for place, block in enumerate(reversed(done))}

    def _following(self, index: int, leaders: set[int]) -> list[int]:
        """Return the blocks that a block can go on to."""
        found: dict[int, None] = {}
        while index < len(self.instructions):
            one = self.instructions[index]
            if index in self.handlers:
                found[self.handlers[index]] = None
            if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
                found[self.places[one.argval]] = None
            if one.opname in _NO_NEXT:
                break
            index += 1
            if index in leaders:
                found[index] = None
                break
        return list(found)

    def _leaders(self) -> set[int]:
        found = {0, *self.handlers.values()}
        for index, one in enumerate(self.instructions):
            if one.is_jump_target:
                found.add(index)
            if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
                found.add(index + 1)
        return found

    def _pass(self, index: int, state: int, leaders: set[int]) -> dict[int, int]:
        """Go through a block from an instruction on; returns the states it hands to other blocks."""
        handed: dict[int, int] = defaultdict(int)
        while index < len(self.instructions):
            one = self.instructions[index]
            if index in self.handlers and one.opname not in _NEVER_RAISES:
                handed[self.handlers[index]] |= state
            state = self._step(index, one, state)
            self.anywhere |= state
            if one.opname in _RETURNS:
                self.end |= state
            if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
                handed[self.places[one.argval]] |= state
            if one.opname in _NO_NEXT:
                break
            index += 1
            if index in leaders:
                handed[index] |= state
                break
        return handed

    def _step(self, index: int, one: dis.Instruction, state: int) -> int:
        name = one.argval
        if one.opname in _LOADS:
            if self.kind == "class" and one.opname in _OF_THE_BLOCK:
                place = self.block_slots.get(name)
                if place is not None and state >> place & _ALL == _BOUND:
                    return state
            self._read(name, state)
            return self.resolve({name: self.pending[name]}, state) if name in self.pending else state
        if one.opname in _STORES | _DELETES:
            block = self.kind == "class" and one.opname in _OF_THE_BLOCK
            place = self._slot(name, block=block)
            if one.opname in _DELETES and not block:
                self._read(name, state)
            new = _BOUND if one.opname in _STORES else _GONE
            return state & ~(_ALL << place) | new << place
        if index in self.inner:
            return self._make(index, state)
        return state

    def _make(self, index: int, state: int) -> int:
        """Make a function or a class: what runs now, and what may run later if its owner is not known."""
        inner = self.inner[index]
        is_owned = index in self.owner
        if inner.kind == "class" or not is_owned:
            state = self._call(inner.loads, inner.binds, inner.deletes, state)
        if not is_owned:
            state = self._call(inner.later, inner.later_binds, set(), state)
        return state

    def resolve(self, called: dict[str, _Inner], state: int) -> int:
        """Let functions be called: read what they load, and bind what they bind."""
        waiting, seen = list(called), set()
        while waiting:
            owner = waiting.pop()
            if owner in seen or owner not in self.pending:
                continue
            seen.add(owner)
            inner = self.pending[owner]
            state = self._call(inner.loads, inner.binds, inner.deletes, state)
            waiting += inner.loads
        return state

    def _call(self, loads: set[str], binds: set[str], deletes: set[str], state: int) -> int:
        for name in loads:
            self._read(name, state)
        for names, new in ((binds, _BOUND), (deletes, _GONE)):
            for name in names:
                state |= new << self._slot(name, block=False)
        return state

    def _read(self, name: str, state: int) -> None:
        place = self.slots.get(name)
        if place is None or state >> place & _SEED:
            self.reads.add(name)


@dataclass
class _Inner:
    """What the code of a function or of a class's body does to the module's names.

    Attributes:
        kind: ``function`` or ``class``.
        loads: Names it may load before it binds them.
        binds: Names it may bind.
        deletes: Names it may delete.
        later: Of a class: names that its functions load when called.
        later_binds: Of a class: names that they bind or delete.
        raw: All names that it loads.
    """

    kind: str = "function"
    loads: set[str] = field(default_factory=set)
    binds: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    later_binds: set[str] = field(default_factory=set)
    raw: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, code: CodeType, kind: str) -> _Inner:
        flow = _Flow(code, kind)
        flow.run()
        found = cls(kind, flow.reads, flow.binds, flow.deleted, flow.later, flow.later_binds, flow.loads)
        if kind == "function":  # a call of it may call what it makes
            found.loads |= found.later
            found.binds |= found.later_binds
            found.later, found.later_binds = set(), set()
        return found

    def add(self, other: _Inner, *, later_only: bool) -> None:
        """Add what a call of another function does; of a class, what its functions do."""
        self.loads |= other.later if later_only else other.loads | other.later
        self.binds |= other.later_binds if later_only else other.binds | other.later_binds
        self.deletes |= set() if later_only else other.deletes
