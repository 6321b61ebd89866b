"""``python@v1`` without a cluster: what the command refuses, what a build may name, which cluster is none."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from click.testing import CliRunner
from sidecar_kit import write_package

from strata.cli.executor import executor as command
from strata.executor.cluster.dask_job import JobError, check_nodes
from strata.executor.protocol.messages import BuildDescription, InputHead
from strata.executor.sidecar.builds import BuildError, BuildRunner, DaskEngine

OPTIONS = {
    "--scheduler is for --engine dask": ["--scheduler", "tcp://127.0.0.1:8786"],
    "--engine dask needs --scheduler": ["--engine", "dask"],
    "--engine dask needs an extra (dask, distributed); pip install 'strata[cluster]'": [
        *("--engine", "dask"),
        *("--scheduler", "tcp://127.0.0.1:8786"),
    ],
}


@pytest.mark.parametrize("sentence", OPTIONS)
def test_options_that_do_not_go_together_are_refused(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    answer = CliRunner().invoke(command, OPTIONS[sentence])
    assert (1, True) == (answer.exit_code, sentence in answer.output), answer.output


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildRunner:
    """Return what runs builds, with one function on Dask and one in a sandbox."""
    for group, module in (("strata.dask", "on_dask"), ("strata.transforms", "in_sandbox")):
        write_package(tmp_path / module, module, "", group, [module])
        monkeypatch.syspath_prepend(str(tmp_path / module))
    return BuildRunner(dask=DaskEngine("tcp://127.0.0.1:8786"))


WRONG = [
    ({}, "function names no function"),
    ({"function": "absent@v1"}, "function names no function"),
    ({"function": ["on_dask@v1"]}, "function names no function"),
    ({"function": "in_sandbox@v1"}, "function names no function"),
    ({"function": "on_dask@v1", "params": []}, "params is no object"),
    ({"function": "on_dask@v1", "by": "x"}, "by is no parameter"),
]


@pytest.mark.parametrize(("params", "sentence"), WRONG)
def test_a_build_names_one_function_and_its_parameters(
    runner: BuildRunner, params: dict, sentence: str
) -> None:
    """Anything else is refused by name, before a process is started."""
    with pytest.raises(BuildError, match=sentence) as caught:
        runner.check(BuildDescription("b1", "python@v1", params, [InputHead("input0")]))
    assert ("InvalidParams", 400) == (caught.value.code, caught.value.status)


def test_functions_on_dask_are_listed_and_run_by_their_transform_alone(runner: BuildRunner) -> None:
    """A function for Dask is no transform of its own, which would run it in a sandbox."""
    runner.check(BuildDescription("b1", "python@v1", {"function": "on_dask@v1", "params": {"by": "x"}}, []))
    assert {"python@v1", "in_sandbox@v1"} < {*runner.refs}
    assert "on_dask@v1" not in runner.refs
    assert ["on_dask@v1"] == runner.features()["functions"]
    assert "python@v1" not in BuildRunner().refs


def nodes(scheduler: str, *workers: str) -> dict:
    """Return versions as Dask tells them, of nodes with an interpreter each."""

    def node(version: str) -> dict:
        return {"host": {"python": version}, "packages": {}}

    found = {f"tcp://127.0.0.1:{port}": node(version) for port, version in enumerate(workers)}
    return {"client": node("3.11.7.final.0"), "scheduler": node(scheduler), "workers": found}


def test_a_cluster_of_another_python_is_refused() -> None:
    """Functions that cloudpickle has written are read by the same minor version only."""
    check_nodes(nodes("3.11.2.final.0", "3.11.7.final.0", "3.11.9.final.0"))
    for wrong in (nodes("3.12.1.final.0", "3.11.7.final.0"), nodes("3.11.7.final.0", "3.11.7", "3.13.0")):
        with pytest.raises(JobError, match=r"has Python 3\.1[23], and the executor 3\.11") as caught:
            check_nodes(wrong)
        assert "OtherPython" == caught.value.code
    with pytest.raises(JobError, match="has no worker"):
        check_nodes(nodes(platform.python_version()))
