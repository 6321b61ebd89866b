"""Write the settings reference (Markdown) from the settings' metadata.

``python -m strata.config.reference > docs/reference/settings.md``; a test compares the two.
"""

from __future__ import annotations

import sys
import types
import typing

import attrs

from strata.config.settings import Settings
from strata.config.sources import FILE_SUFFIX, PREFIX

HEAD = """# Settings

Every setting is a key of `[tool.strata]` in `pyproject.toml` (or the file given by `--config`) and, unless it
says otherwise, an environment variable. Later sources win: defaults, the file, `STRATA_*` variables, options.
An unknown key or variable is an error. `strata config` shows each value with its source.

This page is generated: `python -m strata.config.reference > docs/reference/settings.md`.

The column "applies on" says when a change takes effect: on `SIGHUP`, with which a running server reads its
settings again ([Connections and signals](connections.md)), or on `restart`. Settings marked *T* can also be
set for a single tenant ([Limit a tenant](../how-to/limit-a-tenant.md)). Numbers such as 429 are HTTP
statuses; [Limits](limits.md) says what a client should do then.

| key | variable | type | default | meaning | applies on |
|---|---|---|---|---|---|
"""


def reference() -> str:
    """Return the page as Markdown."""
    hints = typing.get_type_hints(Settings)
    return HEAD + "".join(_row(field, hints[field.name]) for field in attrs.fields(Settings))


def _row(field: attrs.Attribute[object], kind: object) -> str:
    facts = field.metadata
    variable = "(file only)" if facts["toml_only"] else f"`{PREFIX}{field.name.upper()}`"
    meaning = facts["help"]
    if facts["choices"]:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in facts['choices'])}."
    if facts["secret"]:
        meaning += f" Also as a file: `{PREFIX}{field.name.upper()}{FILE_SUFFIX.upper()}`."
    if facts["tenant"]:
        meaning += " *T*"
    takes = "SIGHUP" if facts["live"] else "restart"
    unit = f" ({facts['unit']})" if facts["unit"] else ""
    return (
        f"| `{field.name}` | {variable} | {_kind(kind)}{unit} | {_default(field)} | {meaning} | {takes} |\n"
    )


def _kind(kind: object) -> str:
    if isinstance(kind, types.UnionType):
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    names = {bool: "boolean", int: "integer", float: "number", str: "text"}
    return names.get(typing.cast("type", kind), "table")


def _default(field: attrs.Attribute[object]) -> str:
    default = field.default
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return (
        f"`{default:g}`"
        if isinstance(default, float)
        else f"`{default}`"
        if isinstance(default, int | str)
        else "empty"
    )


if __name__ == "__main__":
    sys.stdout.write(reference())
