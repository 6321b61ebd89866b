"""Limits of single tenants: their files, and the effective values."""

from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.config import ConfigError, Settings
from strata.config.effective import changed_settings, check_change, effective
from strata.config.fields import TenantSection
from strata.config.sources import load_settings
from strata.config.tenants import LIMITS, NUMBERS, OWN, Overrides, looser, parse_overrides, print_overrides
from strata.server.live_settings import difference
from strata.server.service import limits_of
from strata.tenants import TenantLimits

HEAD = """
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "a-token-of-twenty-characters"
artifact_dir = "artifacts"
multi_tenant_enabled = true
bulk_slots = 6
"""


def load(tmp_path: Path, toml: str) -> Settings:
    (tmp_path / "pyproject.toml").write_text(HEAD.replace('"artifacts"', f'"{tmp_path}/artifacts"') + toml)
    return load_settings(config_file=None, environ={}, options={}, cwd=tmp_path).settings


def problems(tmp_path: Path, toml: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml)
    return [str(problem) for problem in caught.value.problems]


def test_every_limit_of_a_tenant_can_be_said_of_one_tenant() -> None:
    """Each field of TenantLimits follows from a setting that can be set for a single tenant."""
    of_all = Settings()
    everything = {}
    for name in LIMITS:
        value = getattr(of_all, name, None)
        if isinstance(value, str):
            everything[name] = f"{value}another"
        elif name not in ("weight", "enabled"):
            everything[name] = not value if isinstance(value, bool) else (value or 0) + 1
    changed = limits_of(attrs.evolve(of_all, **everything))

    # Rates are limited or not for all tenants; a weight is set for one tenant only.
    fixed = {"weight", "rate_limited"}
    same = {
        field.name
        for field in attrs.fields(TenantLimits)
        if getattr(changed, field.name) == getattr(limits_of(of_all), field.name)
    }
    assert fixed == same


def test_each_source_wins_over_the_one_before_and_is_named(tmp_path: Path) -> None:
    """Precedence rises from default over setting and section to operator; maxima and own changes only lower."""
    settings = load(
        tmp_path,
        "[tool.strata.tenants.a]\nmax_tasks_per_scan = 7\nbatch_size = 10\nfetch_parallelism = 3\n"
        "[tool.strata.tenants.a.maximum]\nmax_concurrent_scans = 9\n",
    )
    overrides = Overrides(
        {"a": {"batch_size": 20, "weight": 2.0}}, {"a": {"fetch_parallelism": 2, "bulk_slots": 60}}
    )
    found = effective(settings, overrides, "a")

    expected = {
        "interactive_slots": (32, "default"), "bulk_slots": (6, "settings"), "max_tasks_per_scan": (7, "section"),
        "batch_size": (20, "operator"), "weight": (2.0, "operator"), "fetch_parallelism": (2, "tenant"),
        "max_concurrent_scans": (9, "maximum"), "enabled": (True, "default"),
    }  # fmt: skip
    assert expected == {name: (found[name].value, found[name].source) for name in expected}
    assert (32, 6) == (
        effective(settings, overrides, "b")["interactive_slots"].value,
        effective(settings, overrides, "b")["bulk_slots"].value,
    )
    assert 100 == effective(settings, overrides, "b")["max_concurrent_scans"].value


WRONG = [
    ("[tool.strata.tenants.a]\nbulk_slot = 1", "tenants.a.bulk_slot: unknown limit; did you mean bulk_slots?"),
    ("[tool.strata.tenants.a]\nport = 1", "tenants.a.port: unknown limit."),
    ("[tool.strata.tenants.a]\nbulk_slots = 0", "tenants.a.bulk_slots: 0 is too small; the minimum is 1."),
    ("[tool.strata.tenants.a]\nenabled = 1", "tenants.a.enabled: 1 is neither true nor false."),
    ("[tool.strata.tenants.a]\nweight = 0", "tenants.a.weight: 0 is too small; the minimum is 0.01."),
    ("[tool.strata.tenants.a]\nweight = nan", "tenants.a.weight: nan is not a number."),
    ("[tool.strata.tenants.a.maximum]\nenabled = true", "tenants.a.maximum.enabled: unknown limit."),
    ("[tool.strata.tenants.a]\nmaximum = 1", "tenants.a.maximum: must be a table."),
    ("[tool.strata.tenants]\na = 1", "tenants.a: must be a table."),
    ("[tool.strata.tenant_maximum]\nbulk_slot = 1", "tenant_maximum.bulk_slot: unknown limit; did you mean bulk_slots?"),
    ('[tool.strata.tenants."a/b"]', "tenants: 'a/b' is no tenant id: 1 to 64 ASCII letters, digits, _ or -, the first a letter or digit."),
    ("[tool.strata.tenants._x]", "tenants: '_x' is no tenant id: 1 to 64 ASCII letters, digits, _ or -, the first a letter or digit."),
    ("[tool.strata.tenants.a]\nbulk_slots = 9\n[tool.strata.tenant_maximum]\nbulk_slots = 8",
     "tenants.a.bulk_slots: 9 is over tenant_maximum.bulk_slots, which is 8."),
    ("[tool.strata.tenants.a.maximum]\nbulk_slots = 9\n[tool.strata.tenant_maximum]\nbulk_slots = 8",
     "tenants.a.maximum.bulk_slots: 9 is over tenant_maximum.bulk_slots, which is 8."),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "problem"), WRONG)
def test_what_is_wrong_with_a_section_is_an_error_that_names_it(
    tmp_path: Path, toml: str, problem: str
) -> None:
    """A problem of a section names tenant and limit, with a suggestion for a misspelled name."""
    assert [problem] == problems(tmp_path, toml)


def test_everything_wrong_is_said_at_once_also_in_the_overrides_file(tmp_path: Path) -> None:
    """All problems of sections, maxima and the overrides file are reported together."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "tenant-overrides.toml").write_text(
        "[tenant]\n[tenants.a]\nbulk_slots = 'x'\n[tenants.a.own]\nenabled = false\nweigth = 1\n"
    )
    toml = "[tool.strata.tenants.a]\nx = 1\n[tool.strata.tenant_maximum]\ny = 2\n"

    assert [
        "tenants.a.x: unknown limit.",
        "tenant_maximum.y: unknown limit.",
        "tenant_overrides_file: tenant: unknown table; did you mean tenants?",
        "tenant_overrides_file: tenants.a.bulk_slots: 'x' is not a whole number.",
        "tenant_overrides_file: tenants.a.own.enabled: unknown limit.",
        "tenant_overrides_file: tenants.a.own.weigth: unknown limit; did you mean weight?",
    ] == problems(tmp_path, toml)


@pytest.mark.parametrize("content", [b"[", b"\xff", b"tenants = 1", b"a = " + b"9" * 5000, b"[" * 3000])
def test_an_overrides_file_that_is_none_refuses_to_start(tmp_path: Path, content: bytes) -> None:
    """A server does not start with an unreadable overrides file, which may disable tenants."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "tenant-overrides.toml").write_bytes(content)
    [problem, *_] = problems(tmp_path, "")
    assert problem.startswith("tenant_overrides_file: ")


def test_sections_without_tenants_are_an_error(tmp_path: Path) -> None:
    """Sections without `multi_tenant_enabled` are an error, except that of the default tenant."""
    single = "[tool.strata.tenants.a]\nbulk_slots = 1\n"
    text = HEAD.replace("multi_tenant_enabled = true\n", "").replace('"artifacts"', f'"{tmp_path}/artifacts"')
    (tmp_path / "strata.toml").write_text(text + single)
    with pytest.raises(ConfigError, match="tenants: limits of single tenants need multi_tenant_enabled"):
        load_settings(config_file=tmp_path / "strata.toml", environ={}, options={}, cwd=tmp_path)
    (tmp_path / "strata.toml").write_text(text + single.replace(".a]", "._default]"))
    found = load_settings(config_file=tmp_path / "strata.toml", environ={}, options={}, cwd=tmp_path).settings
    assert 1 == effective(found, Overrides(), "_default")["bulk_slots"].value


def test_sections_change_in_a_running_server_and_contradictions_are_refused(tmp_path: Path) -> None:
    """Changed sections apply to a running server completely, or not at all when they contradict a maximum."""
    old = load(tmp_path, "")
    new = load(tmp_path, "[tool.strata.tenants.a]\nbulk_slots = 2\n")
    assert ("tenants",) == difference(old, new).changed
    with pytest.raises(ConfigError, match="is over"):
        difference(old, attrs.evolve(new, tenant_maximum={"bulk_slots": 1}))


def test_a_tenants_own_administrators_only_take_away(tmp_path: Path) -> None:
    """A tenant's administrators can only lower granted limits: they cannot raise one, nor change weight or enabled."""
    settings = load(tmp_path, "[tool.strata.tenants.a.maximum]\nbulk_slots = 100\n")
    throttled = Overrides({"a": {"bulk_slots": 2}}, {"a": {"bulk_slots": 1}})
    limits = effective(settings, throttled, "a")

    def wrong(*, operator: bool = False, **values: object) -> list[str]:
        return [str(problem) for problem in check_change(values, limits, operator=operator)]

    assert [] == wrong(bulk_slots=2)
    assert [] == wrong(bulk_slots=None)
    assert ["bulk_slots: this tenant is granted 2; only an operator can raise it."] == wrong(bulk_slots=3)
    assert ["weight: this tenant is granted 1; only an operator can raise it."] == wrong(weight=1.1)
    assert ["enabled: only an operator can change this limit."] == wrong(enabled=True)
    assert ["enabled: only an operator can change this limit."] == wrong(enabled=None)
    assert ["batch_size: only an operator can change this limit."] == wrong(batch_size=1), (
        "a quantum of seconds"
    )
    assert [] == wrong(operator=True, bulk_slots=100, weight=3.0, enabled=True)
    assert ["bulk_slots: this tenant's maximum is 100; set that or less."] == wrong(
        operator=True, bulk_slots=101
    )


def test_none_and_a_zero_that_means_so_permit_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, and 0 where it means unlimited, count as more than any number."""
    free = SimpleNamespace(metadata={"zero_is_free": True})
    monkeypatch.setitem(LIMITS, "bulk_slots", free)
    assert looser("bulk_slots", 0, 5)
    assert looser("bulk_slots", None, 5)
    assert not looser("bulk_slots", 5, 0)
    assert not looser("bulk_slots", 0, 0)
    assert looser("interactive_max_bytes", 5, 0)
    assert not looser("interactive_max_bytes", 0, 5)


def layers() -> st.SearchStrategy[dict]:
    ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,10}", fullmatch=True) | st.just("_default")
    whole = st.dictionaries(
        st.sampled_from(["bulk_slots", "interactive_slots", "max_tasks_per_scan"]), st.integers(1, 2**63 - 1)
    )
    real = st.dictionaries(st.sampled_from(["weight"]), st.floats(0.01, 100))
    return st.dictionaries(
        ids, st.tuples(whole, real).map(lambda both: both[0] | both[1]).filter(bool), max_size=4
    )


@given(layers(), layers(), st.dictionaries(st.just("a"), st.fixed_dictionaries({"enabled": st.booleans()})))
def test_what_was_written_is_read_back(granted: dict, own: dict, switched: dict) -> None:
    """Reading a written overrides file gives the same values, to the last digit."""
    written = Overrides(granted | switched, own)
    assert (written, []) == parse_overrides(print_overrides(written))


@given(st.data())
def test_nothing_exceeds_a_maximum_whatever_is_said(data: st.DataObject) -> None:
    """No value of sections, operators or a file edited by hand exceeds a maximum."""
    numbers = st.integers(1, 20)
    names = ("bulk_slots", "interactive_slots")
    values = st.dictionaries(st.sampled_from(names), numbers)
    settings = Settings(
        bulk_slots=data.draw(numbers),
        tenants={"a": TenantSection(data.draw(values), data.draw(values))},
        tenant_maximum=data.draw(values),
    )
    found = effective(settings, Overrides({"a": data.draw(values)}, {"a": data.draw(values)}), "a")
    for name in names:
        most = found[name].maximum
        assert most is None or found[name].value <= most
        assert found[name].value <= found[name].granted
    assert set(changed_settings(found)) <= {field.name for field in attrs.fields(Settings)}
    assert OWN < NUMBERS < set(LIMITS)
