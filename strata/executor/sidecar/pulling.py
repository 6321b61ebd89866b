"""The pull model on the executor's side: fetch the inputs of a manifest, run, and bring the result.

Inputs and result are in files of the build's directory; memory holds a piece of one at a time.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from strata.executor.protocol.messages import (
    ARROW_STREAM,
    VERSION,
    BuildDescription,
    DescriptionError,
    InputHead,
    parse_description,
)
from strata.executor.sidecar.builds import BuildDirectory, BuildError, BuildRunner
from strata.http.calling.addresses import AddressRules, UrlError, parse_url
from strata.http.calling.exchange import CallError, Response, call
from strata.sandbox.frames import Kind
from strata.tracing.spans import trace_headers

CHUNK_BYTES: Final = 1024 * 1024
"""Most bytes of a result that are read at a time."""

LOG_SECONDS: Final = 5.0
"""Seconds for a server to take a part of a log; then it is left out."""

LOG_BYTES: Final = 32 * 1024
"""Most bytes of a part of a log."""

ANSWER_BYTES: Final = 64 * 1024
"""Most bytes of an answer that are read."""


@attrs.frozen
class Manifest:
    """A build, and the URLs of what it takes and gives.

    Attributes:
        description: The build.
        inputs: The URL of each input, in their order.
        output: The URL of the result.
        method: POST or PUT.
        max_bytes: Most bytes of the result; None where the server says none.
        finalize: The URL to call when the result is there.
        log: The URL to append to the log; None: it is not wanted.
    """

    description: BuildDescription
    inputs: Sequence[str] = attrs.field(repr=False)
    output: str = attrs.field(repr=False)
    method: str
    max_bytes: int | None
    finalize: str = attrs.field(repr=False)
    log: str | None = attrs.field(repr=False)


def parse_manifest(text: bytes) -> Manifest:
    """Return the manifest that an executor was sent; unknown keys are left out.

    Raises:
        DescriptionError: If it is none of this version.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DescriptionError("The manifest is no JSON.") from None
    if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
        raise DescriptionError("The manifest has no metadata.")
    metadata, inputs, output = found["metadata"], found.get("inputs", []), found.get("output")
    if not isinstance(inputs, list) or not all(_has_url(one) for one in inputs):
        raise DescriptionError("An input of the manifest has no url.")
    if (
        not isinstance(output, dict)
        or not _has_url(output)
        or output.get("method", "POST") not in ("POST", "PUT")
    ):
        raise DescriptionError("The manifest has no output with a url and the method POST or PUT.")
    if not isinstance(found.get("finalize_url"), str):
        raise DescriptionError("The manifest has no finalize_url.")
    most, log = output.get("max_bytes"), found.get("log_url")
    return Manifest(
        _description(found, metadata, inputs),
        [one["url"] for one in inputs],
        output["url"],
        output.get("method", "POST"),
        most if isinstance(most, int) else None,
        found["finalize_url"],
        log if isinstance(log, str) else None,
    )


def _description(
    found: Mapping[str, Any], metadata: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]
) -> BuildDescription:
    """Return the build, which is described by ``transform``, or by ``executor_ref`` and ``params``."""
    heads = [
        {
            "name": one.get("name", f"input{index}"),
            "byte_size": one.get("byte_size"),
            "format": one.get("format"),
        }
        for index, one in enumerate(inputs)
    ]
    told = {
        "protocol_version": VERSION,
        "transform": {"ref": metadata.get("executor_ref"), "params": metadata.get("params", {})},
        "build_id": found.get("build_id"),
        **metadata,
        "inputs": heads,
    }
    return parse_description(json.dumps(told).encode())


def _has_url(one: object) -> bool:
    return isinstance(one, dict) and isinstance(one.get("url"), str)


@attrs.frozen
class Puller:
    """Runs builds by manifests.

    Attributes:
        runner: Runs them.
        rules: Which addresses the URLs of a manifest may lead to; by default none that is not public.
    """

    runner: BuildRunner
    rules: AddressRules = attrs.field(factory=AddressRules)

    async def run(self, manifest: Manifest, directory: BuildDirectory) -> dict[str, Any]:
        """Run a build and bring its result; returns the answer to the request.

        Raises:
            BuildError: If it fails, or a URL does not do what it is for.
        """
        for url in (*manifest.inputs, manifest.output, manifest.finalize, manifest.log or manifest.finalize):
            _check_url(url)  # before any request
        inputs = await self._fetch_all(manifest, directory.path)
        output = trio.Path(directory.path / "result")
        size, part = 0, 0
        async with await output.open("xb") as file:
            async for frame in self.runner.run(manifest.description, directory, inputs):
                if frame.kind is Kind.LOG:
                    await self._log(manifest, frame.payload, part)
                    part += 1
                elif frame.kind is Kind.DATA:
                    size += len(frame.payload)
                    if manifest.max_bytes is not None and size > manifest.max_bytes:
                        detail = f"The result has more than {manifest.max_bytes} bytes."
                        raise BuildError("OutputTooLarge", detail, 413)
                    await file.write(frame.payload)
        await self._bring(manifest, output, size)
        report = json.dumps({"output_format": "arrow_ipc_stream", "byte_size": size}).encode()
        made = await self._told("finalize_url", manifest.finalize, report)
        return {
            "success": True,
            "build_id": manifest.description.build_id,
            "byte_size": size,
            "protocol_version": VERSION,
            "finalize": made,
        }

    async def _fetch_all(self, manifest: Manifest, place: Path) -> list[Path]:
        paths, left = [], self.runner.limits.input_bytes
        for index, (url, head) in enumerate(zip(manifest.inputs, manifest.description.inputs, strict=True)):
            path = place / f"part{index}"
            left -= await self._fetch(url, head, trio.Path(path), left)
            paths.append(path)
        return paths

    async def _fetch(self, url: str, head: InputHead, path: trio.Path, left: int) -> int:
        """Fetch an input into a file; returns its bytes."""
        size, name = 0, f"the url of {head.name[:64]}"
        try:
            asking = call("GET", url, rules=self.rules, headers=trace_headers())
            async with await path.open("xb") as file, asking as response:
                _check(response, name)
                async for piece in response:
                    size += len(piece)
                    if size > left:
                        detail = f"The inputs have more than {self.runner.limits.input_bytes} bytes."
                        raise BuildError("InputTooLarge", detail, 413)
                    await file.write(piece)
        except (CallError, UrlError) as error:
            raise _failed(name, error) from None
        if head.byte_size not in (None, size):
            raise BuildError("TransferFailed", f"{name} gave {size} of {head.byte_size} bytes.", 502)
        return size

    async def _bring(self, manifest: Manifest, path: trio.Path, size: int) -> None:
        headers = [("Content-Type", ARROW_STREAM), *trace_headers()]
        try:
            async with call(
                manifest.method,
                manifest.output,
                rules=self.rules,
                headers=headers,
                body=_pieces(path),
                size=size,
            ) as response:
                await response.read(ANSWER_BYTES)
                _check(response, "the url of the output")
        except (CallError, UrlError) as error:
            raise _failed("the url of the output", error) from None

    async def _told(self, name: str, url: str, body: bytes, kind: str = "application/json") -> object:
        """Send a small body; returns the JSON of the answer, None if it is none."""
        headers = [("Content-Type", kind), *trace_headers()]
        try:
            async with call(
                "POST", url, rules=self.rules, headers=headers, body=_once(body), size=len(body)
            ) as response:
                found = await response.read(ANSWER_BYTES)
                _check(response, name)
        except (CallError, UrlError) as error:
            raise _failed(name, error) from None
        try:
            made: object = json.loads(found)
        except (ValueError, RecursionError):
            return None
        return made

    async def _log(self, manifest: Manifest, text: bytes, part: int) -> None:
        """Send a part of the log; what goes wrong is left out, for the log is no part of the result."""
        if manifest.log is None:
            return
        mark = "&" if "?" in manifest.log else "?"
        with trio.move_on_after(LOG_SECONDS):
            for start in range(0, len(text), LOG_BYTES):
                url = f"{manifest.log}{mark}stream=stdout&seq={part}"
                try:
                    await self._told("log_url", url, text[start : start + LOG_BYTES], "text/plain")
                except BuildError:
                    return


async def _pieces(path: trio.Path) -> AsyncIterator[bytes]:
    async with await path.open("rb") as file:
        while piece := await file.read(CHUNK_BYTES):
            yield piece


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _check(response: Response, name: str) -> None:
    """Refuse an answer that is not 200 to 204; redirects are not followed."""
    if not HTTPStatus.OK <= response.status <= HTTPStatus.NO_CONTENT:
        raise BuildError("TransferFailed", f"{name} was answered with {response.status}.", 502)


def _check_url(url: str) -> None:
    try:
        parse_url(url)
    except UrlError as error:
        raise _failed("a url of the manifest", error) from None


def _failed(name: str, error: CallError | UrlError) -> BuildError:
    """Return the error of a URL, which is not shown: its signature is a secret."""
    if isinstance(error, UrlError):
        return BuildError("AddressRefused", f"{name}: {error}.")
    return BuildError("TransferFailed", f"{name}: {error}.", 502)
