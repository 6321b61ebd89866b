"""Pickle what cells define: functions and classes by value, bound to the names of the cell that loads them.

A function of a cell looks its names up where it is called, as in one run of all cells: when another cell
loads it, its globals are that cell's names. A class is made once in a process, however many values hold it.
"""

from __future__ import annotations

import abc
import builtins
import dataclasses
import enum
import io
import marshal
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final
from weakref import WeakKeyDictionary

MAIN: Final = "__main__"
"""The module that cells are."""

_SENTINELS: Final[Mapping[str, object]] = {
    "MISSING": dataclasses.MISSING,
    "_FIELD": dataclasses._FIELD,  # type: ignore[attr-defined]  # noqa: SLF001  # compared by identity
    "_FIELD_CLASSVAR": dataclasses._FIELD_CLASSVAR,  # type: ignore[attr-defined]  # noqa: SLF001
    "_FIELD_INITVAR": dataclasses._FIELD_INITVAR,  # type: ignore[attr-defined]  # noqa: SLF001
    "KW_ONLY": dataclasses.KW_ONLY,
}
_OWN: Final = frozenset({"__dict__", "__weakref__", "_abc_impl", "__slots__", "__module__", "__qualname__"})
"""Attributes of a class that are made with it."""


_UNNAMED: Final[Mapping[type, str]] = {
    found: name
    for name, found in vars(types).items()
    if isinstance(found, type)
    and found.__module__ == "builtins"
    and not hasattr(builtins, found.__qualname__)
}
"""Types that no module has under their own name, by their name in ``types``."""


class _Home:
    """The cell of this process.

    Attributes:
        names: Its names.
        key: What the ids of its classes begin with.
        ids: Ids of classes by class.
        classes: Classes by id.
    """

    names: dict[str, Any]
    key: str
    ids: WeakKeyDictionary[type, str]
    classes: dict[str, type]


_home = _Home()


def enter(names: dict[str, Any], key: str) -> None:
    """Make ``names`` those of the process's cell; ``key`` tells its source from others."""
    _home.names, _home.key = names, key
    _home.ids, _home.classes = WeakKeyDictionary(), {}


def dumps(value: object) -> bytes:
    """Return a value as a pickle; raises what pickling it raises."""
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(value)
    return file.getvalue()


def loads(data: bytes | memoryview) -> object:
    """Return the value of a pickle, with functions bound to the names of the process's cell."""
    return pickle.loads(data)  # noqa: S301  # inside of the sandbox, which is what it is for


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """See :class:`pickle.Pickler`."""
        if isinstance(obj, types.FunctionType):
            return NotImplemented if _is_importable(obj) else _reduced_function(obj)
        if isinstance(obj, type):
            if obj in _UNNAMED:
                return _unnamed, (_UNNAMED[obj],)
            return NotImplemented if _is_importable(obj) else _reduced_class(obj)
        reduce = _REDUCERS.get(type(obj))
        if reduce is not None:
            return reduce(obj)
        for name, sentinel in _SENTINELS.items():
            if obj is sentinel:
                return _sentinel, (name,)
        return NotImplemented


def _is_importable(found: Any) -> bool:
    """Whether another process finds the same object by its name."""
    module = getattr(found, "__module__", None)
    if module is None or module == MAIN:
        return False
    place: Any = sys.modules.get(module)
    for part in found.__qualname__.split("."):
        place = getattr(place, part, None)
    return place is found


def _reduced_function(function: types.FunctionType) -> Any:
    code = function.__code__
    others = None
    if function.__globals__ is not _home.names:
        known = function.__globals__
        others = {name: known[name] for name in sorted(set(_names_of(code))) if name in known}
        others |= {"__name__": known.get("__name__", MAIN)}
    state = {
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__dict__": function.__dict__,
        "__doc__": function.__doc__,
        "__annotations__": function.__annotations__,
        "__qualname__": function.__qualname__,
        "__module__": function.__module__,
    }
    made = (marshal.dumps(code), function.__name__, function.__closure__, others is not None)
    return _function, made, (state, others), None, None, _fill_function


def _names_of(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _names_of(one)


def _function(code: bytes, name: str, closure: Any, foreign: bool) -> types.FunctionType:  # noqa: FBT001
    names = {"__builtins__": __builtins__} if foreign else _home.names
    return types.FunctionType(marshal.loads(code), names, name, None, closure)  # noqa: S302  # as `loads`


def _fill_function(function: types.FunctionType, state: Any) -> None:
    own, others = state
    if others is not None:
        function.__globals__.update(others)
    for name, value in own.items():
        setattr(function, name, value)


def _reduced_class(kind: type) -> Any:
    id_ = _id_of(kind)
    dictionary = dict(kind.__dict__)
    slots = dictionary.get("__slots__")
    names = () if slots is None else (slots,) if isinstance(slots, str) else tuple(slots)
    if isinstance(kind, enum.EnumMeta):
        return _reduced_enum(kind, id_)
    private = {f"_{kind.__name__.lstrip('_')}{name}" for name in names if name.startswith("__")}
    left_out = _OWN | set(names) | private
    state = {name: value for name, value in dictionary.items() if name not in left_out}
    made = (type(kind), kind.__name__, kind.__bases__, slots, kind.__module__, kind.__qualname__, id_)
    return _class, made, (id_, state), None, None, _fill_class


def _reduced_enum(kind: enum.EnumMeta, id_: str) -> Any:
    members: dict[str, Any] = {name: kind.__members__[name].value for name in kind.__members__}
    skipped = {*_OWN, *members, "__new__", "__new_member__"}
    own = {
        name: value
        for name, value in kind.__dict__.items()
        if name not in skipped
        and not (name.startswith("_") and name.endswith("_") and not name.startswith("__"))
        and isinstance(value, types.FunctionType | property | staticmethod | classmethod)
        and not _is_of_enum(value)
    }
    made = (type(kind), kind.__name__, kind.__bases__, members, own, kind.__module__, kind.__qualname__, id_)
    return _enum, made


def _is_of_enum(value: object) -> bool:
    return getattr(value, "__module__", None) == "enum"


def _enum(  # noqa: PLR0917  # as a pickle calls it
    meta: Any,
    name: str,
    bases: tuple[type, ...],
    members: Mapping[str, Any],
    own: Mapping[str, Any],
    module: str,
    qualname: str,
    id_: str,
) -> type:
    found = _home.classes.get(id_)
    if found is not None:
        return found
    names = meta.__prepare__(name, bases)
    names["__module__"], names["__qualname__"] = module, qualname
    for key, value in (*members.items(), *own.items()):
        names[key] = value
    return _known(id_, meta(name, bases, names))


def _id_of(kind: type) -> str:
    """Return the id of a class: that under which it was loaded, or one of its cell's source and its name."""
    known = _home.ids.get(kind)
    if known is None:
        known = f"{_home.key}:{kind.__qualname__}"
        count = 1
        while known in _home.classes:
            count += 1
            known = f"{_home.key}:{kind.__qualname__}:{count}"
        _known(known, kind)
    return known


def _known(id_: str, kind: type) -> type:
    _home.ids[kind], _home.classes[id_] = id_, kind
    return kind


_filled: set[str] = set()


def _class(  # noqa: PLR0917  # as a pickle calls it
    meta: Any, name: str, bases: tuple[type, ...], slots: Any, module: str, qualname: str, id_: str
) -> type:
    found = _home.classes.get(id_)
    if found is not None:
        _filled.add(id_)
        return found
    names: dict[str, Any] = {"__module__": module, "__qualname__": qualname}
    if slots is not None:
        names["__slots__"] = slots
    return _known(id_, types.new_class(name, bases, {"metaclass": meta}, lambda space: space.update(names)))


def _fill_class(kind: type, state: Any) -> None:
    id_, attributes = state
    if id_ in _filled:
        return
    _filled.add(id_)
    for name, value in attributes.items():
        if name not in ("__classcell__", "__static_attributes__", "__firstlineno__"):
            setattr(kind, name, value)
    if isinstance(kind, abc.ABCMeta):
        abc.update_abstractmethods(kind)  # type: ignore[arg-type]  # any class will do


def _cell() -> types.CellType:
    return types.CellType()


def _fill_cell(cell: types.CellType, state: tuple[Any, ...]) -> None:
    if state:
        (cell.cell_contents,) = state


def _reduced_cell(cell: types.CellType) -> Any:
    try:
        state: tuple[Any, ...] = (cell.cell_contents,)
    except ValueError:
        state = ()
    return _cell, (), state, None, None, _fill_cell


def _unnamed(name: str) -> object:
    return getattr(types, name)


def _sentinel(name: str) -> object:
    return _SENTINELS[name]


_REDUCERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    types.CellType: _reduced_cell,
    types.ModuleType: lambda module: (import_module, (module.__name__,)),
    types.MappingProxyType: lambda proxy: (types.MappingProxyType, (dict(proxy),)),
    types.CodeType: lambda code: (marshal.loads, (marshal.dumps(code),)),
    property: lambda one: (property, (one.fget, one.fset, one.fdel, one.__doc__)),
    staticmethod: lambda one: (staticmethod, (one.__func__,)),
    classmethod: lambda one: (classmethod, (one.__func__,)),
}
"""How values are pickled that pickle itself refuses."""
