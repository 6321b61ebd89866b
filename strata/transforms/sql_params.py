"""The parameters of a SQL transform."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import attrs

from strata.outcomes import Reason, Refused

MOST_SQL_CHARACTERS: Final = 100_000
"""Most characters of a query; a longer one is refused."""

MOST_INPUTS: Final = 64
"""Most inputs of a query; more are refused."""

PARAMS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["sql"],
    "additionalProperties": False,
    "properties": {
        "sql": {
            "type": "string",
            "minLength": 1,
            "maxLength": MOST_SQL_CHARACTERS,
            "description": "One SELECT statement over the inputs: input0, input1 … in their order.",
        },
        "input_names": {
            "type": "array",
            "maxItems": MOST_INPUTS,
            "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,62}$"},
            "description": "Further names of the inputs, in their order.",
        },
    },
}
"""JSON Schema of the parameters."""

_LOC: Final = ("body", "transform", "params")
_KEYS: Final = ("sql", "input_names")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_NUMBERED: Final = re.compile(r"input\d+")


@attrs.frozen
class SqlSpec:
    """A query.

    Attributes:
        sql: The statement, without space around it.
        names: Names of the inputs besides ``input0`` …, in their order; empty if none are given.
    """

    sql: str
    names: tuple[str, ...] = ()

    def canonical(self) -> dict[str, object]:
        """Return the parameters as they are part of the result's identity."""
        return {"sql": self.sql, "input_names": list(self.names)}


def parse_sql_params(params: Mapping[str, Any], inputs: Sequence[str]) -> SqlSpec | Refused:
    """Parse ``transform.params`` of a SQL transform.

    Args:
        params: The parameters, as sent.
        inputs: The inputs of the request.

    Returns a refusal (BAD_REQUEST) for an unknown key, a wrong value, or names that do not fit the inputs.
    """
    sql = _parse_sql(params)
    if isinstance(sql, Refused):
        return sql
    refused = check_inputs(inputs)
    if refused is not None:
        return refused
    names = _parse_names(params.get("input_names"), len(inputs))
    return names if isinstance(names, Refused) else SqlSpec(sql, names)


def check_inputs(inputs: Sequence[str]) -> Refused | None:
    """Return the refusal (BAD_REQUEST) of no input or too many; None if their number is right."""
    if inputs and len(inputs) <= MOST_INPUTS:
        return None
    detail = f"A transform has 1 to {MOST_INPUTS} inputs."
    return Refused(Reason.BAD_REQUEST, detail, "bad_inputs", loc=("body", "inputs"))


def _parse_sql(params: Mapping[str, Any]) -> str | Refused:
    for key in params:
        if key not in _KEYS:
            close = get_close_matches(key, _KEYS, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; the parameters are {', '.join(_KEYS)}."
            return _bad(f"Unknown parameter {key[:64]}{hint}", key[:64])
    sql = params.get("sql")
    if not isinstance(sql, str) or not sql.strip() or "\0" in sql:
        return _bad("sql must be a text with one SELECT statement.", "sql")
    if len(sql) > MOST_SQL_CHARACTERS:
        return _bad(f"sql has {len(sql)} characters; the maximum is {MOST_SQL_CHARACTERS}.", "sql")
    if any("\ud800" <= one <= "\udfff" for one in sql):
        return _bad("sql has characters that are no Unicode text.", "sql")
    return sql.strip()


def _parse_names(names: object, inputs: int) -> tuple[str, ...] | Refused:
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(one, str) and _NAME.fullmatch(one) for one in names):
        return _bad(
            "input_names must be a list of names of letters, digits and _, at most 63.", "input_names"
        )
    if len(names) != inputs:
        return _bad(f"input_names has {len(names)} names for {inputs} inputs.", "input_names")
    folded = [name.lower() for name in names]
    for index, name in enumerate(folded):
        if name in folded[:index]:
            return _bad(f"input_names has {name} twice; names differ in more than case.", "input_names")
        if _NUMBERED.fullmatch(name) and name != f"input{index}":
            return _bad(f"input_names has {name}, which is another input's own name.", "input_names")
    return tuple(names)


def _bad(detail: str, key: str) -> Refused:
    return Refused(Reason.BAD_REQUEST, detail, "invalid_params", loc=(*_LOC, key))
