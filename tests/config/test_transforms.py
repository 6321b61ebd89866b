"""The table of transforms: the documented form is accepted, and each mistake is named with its way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from strata.config import ConfigError
from strata.config.fields import RegisteredTransform
from strata.config.sections.transforms import transforms_of
from strata.config.sources import load_settings

DOCUMENTED = """
[tool.strata.transforms]
enabled = true
[[tool.strata.transforms.registry]]
ref = "duckdb_sql@*"               # glob on name@version
executor_url = "embedded://local"
timeout_seconds = 300
max_output_bytes = 1073741824
max_input_bytes = 1073741824
requires_scope = "transforms:run"  # optional
"""


def load(text: str, tmp_path: Path):
    file = tmp_path / "strata.toml"
    file.write_text(text)
    return load_settings(config_file=file, environ={}, options={}, cwd=tmp_path)


def test_the_documented_form_is_accepted(tmp_path: Path) -> None:
    """The example of the product page is taken as it stands."""
    settings = load(DOCUMENTED, tmp_path).settings
    entry = RegisteredTransform(
        "duckdb_sql@*",
        timeout_seconds=300,
        max_output_bytes=1073741824,
        max_input_bytes=1073741824,
        requires_scope="transforms:run",
    )
    assert (True, "prefer", (entry,)) == (
        settings.transforms.enabled,
        settings.transforms.sandbox,
        settings.transforms.registry,
    )
    assert entry == transforms_of(settings)[0]


MISTAKES = [
    ("enabled = 1", "transforms.enabled: '1' is neither true nor false."),
    ("enable = true", "transforms.enable: unknown key; did you mean enabled?"),
    ("sandbox = 'never'", "transforms.sandbox: 'never' is not one of prefer, require."),
    ("registry = 5", "transforms.registry: it is not a list of tables"),
    ("registry = [{}]", "transforms.registry[0].ref: it is missing"),
    ("registry = [{ref = 'x'}]", "transforms.registry[0].ref: 'x' is not a glob on name@version"),
    ("registry = [{ref = 'a@b', url = 'x'}]", "transforms.registry[0].url: unknown key"),
    (
        "registry = [{ref = 'a@b', executor_url = 'ftp://h'}]",
        "'ftp://h' is not embedded://local or the base URL of an executor",
    ),
    (
        "registry = [{ref = 'a@b', executor_url = 'http://u:p@h'}]",
        "is not embedded://local or the base URL of an executor",
    ),
    (
        "enabled = true\nregistry = [{ref = 'a@b', executor_url = 'http://h', token_file = '/nowhere'}]",
        "transforms.registry[0].token_file: the file cannot be read",
    ),
    (
        "enabled = true\nregistry = [{ref = 'a@b', token_file = '/nowhere'}]",
        "embedded://local demands no token",
    ),
    ("registry = [{ref = 'a@b', timeout_seconds = 0}]", "0 is not a number of seconds above 0"),
    ("registry = [{ref = 'a@b', timeout_seconds = nan}]", "nan is not a number of seconds above 0"),
    ("registry = [{ref = 'a@b', max_input_bytes = -1}]", "-1 is not a number of bytes"),
    ("registry = [{ref = 'a@b', max_output_bytes = true}]", "True is not a number of bytes"),
    ("registry = [{ref = 'a@b', tenants = []}]", "[] is not a list of texts"),
    ("registry = [{ref = 'a@b', scopes = 'x'}]", "'x' is not a list of texts"),
    ("registry = [{ref = 'a@b', requires_scope = 'a b'}]", "'a b' is not a scope"),
    ("enabled = true", "transforms.registry: it is empty"),
    ("registry = [{ref = 'a@b', tables = 'rows'}]", "'rows' is not one of arrow, reference"),
    (
        "enabled = true\nregistry = [{ref = 'a@b', tables = 'reference'}]",
        "transforms.registry[0].tables: reference is for an executor",
    ),
    ("registry = [{ref = 'a@b', transport = 'pigeon'}]", "'pigeon' is not one of direct, signed"),
    ("registry = [{ref = 'a@b', strata_url = 'strata'}]", "'strata' is not the base URL"),
    (
        "enabled = true\nregistry = [{ref = 'a@b', executor_url = 'http://h', transport = 'signed'}]",
        "transforms.registry[0].strata_url: signed needs strata_url",
    ),
    (
        "enabled = true\nregistry = [{ref = 'a@b', transport = 'signed', strata_url = 'http://s'}]",
        "transforms.registry[0].transport: embedded://local fetches nothing by URLs",
    ),
    (
        "enabled = true\nregistry = [{ref = 'a@b', executor_url = 'http://h', strata_url = 'http://s'}]",
        "transforms.registry[0].strata_url: it is used by",
    ),
]


@pytest.mark.parametrize(("line", "words"), MISTAKES)
def test_a_mistake_is_named(tmp_path: Path, line: str, words: str) -> None:
    """Nothing is ignored: each wrong key and value is a problem that says what to write."""
    with pytest.raises(ConfigError) as caught:
        load(f"[tool.strata.transforms]\n{line}\n", tmp_path)
    assert words in "\n".join(str(problem) for problem in caught.value.problems)


def test_personal_mode_runs_sql_without_a_registry(tmp_path: Path) -> None:
    """One user on a laptop may run SQL; in service mode nothing runs that is not registered."""
    settings = load("[tool.strata]\n", tmp_path).settings
    assert ["duckdb_sql@v1"] == [entry.ref for entry in transforms_of(settings)]
