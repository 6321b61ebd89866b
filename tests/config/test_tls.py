"""TLS files: all their problems are reported at start, by setting."""

import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from strata.config import Settings, validate_mode_coherence
from strata.config.tls import expiry_of, tls_context


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    authority, other = trustme.CA(), trustme.CA()
    made = authority.issue_cert("strata.example.com")
    key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    contents = {
        "cert": made.cert_chain_pems[0].bytes(),
        "key": made.private_key_pem.bytes(),
        "both": made.private_key_and_cert_chain_pem.bytes(),
        "ca": authority.cert_pem.bytes(),
        "other_key": other.issue_cert("x").private_key_pem.bytes(),
        "locked_key": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        ),
        "junk": b"junk",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: str(tmp_path / name) for name in (*contents, "missing")}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((None, None, None), None),
        (("cert", "key", None), True),
        (("both", None, None), True),
        (("cert", "key", "ca"), True),
        ((None, "key", "ca"), ["tls_key: requires tls_certificate", "tls_client_ca: requires tls_certificate"]),
        (("cert", None, None), ["tls_certificate: {cert} is not a PEM certificate with its key; name another file, or set tls_key."]),
        (("cert", "other_key", None), ["tls_key: the key in {other_key} does not belong to {cert}"]),
        (("cert", "locked_key", None), ["tls_key: the key in {locked_key} is encrypted"]),
        (("junk", "key", "junk"), ["tls_certificate: {junk} is not a PEM certificate with its key; name another file.", "tls_client_ca: {junk} contains no PEM certificate"]),
        (("missing", "missing", "missing"), [f"{name}: {{missing}} cannot be read: No such file" for name in ("tls_certificate", "tls_key", "tls_client_ca")]),
    ],
)  # fmt: skip
def test_everything_wrong_is_said_with_its_setting(files, names, expected) -> None:
    """Each unusable file is a problem of its setting at start, instead of a failure at the first handshake."""
    given = [files[name] if name else None for name in names]
    found = tls_context(*given)

    if not isinstance(expected, list):
        assert expected is (found and isinstance(found, ssl.SSLContext))
        return
    said = [f"{fault.setting}: {fault.message}" for fault in found]
    assert len(expected) == len(said)
    for words, sentence in zip(expected, said, strict=True):
        assert sentence.startswith(words.format(**files))
    settings = Settings(
        **dict(zip(("tls_certificate", "tls_key", "tls_client_ca"), given, strict=True)),
        artifact_dir=str(Path(files["ca"]).parent / "a"),
        cache_dir=str(Path(files["ca"]).parent / "c"),
    )
    assert said == [str(problem) for problem in validate_mode_coherence(settings)]


def test_nothing_older_than_tls_1_2_and_nothing_newer_than_http_1(files) -> None:
    """The minimum is TLS 1.2; tests/http/serving/test_serve.py checks ALPN with real sockets."""
    context = tls_context(files["both"], None, None)
    assert isinstance(context, ssl.SSLContext)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version


def test_what_opens_and_is_no_file_is_neither_waited_for_nor_read(files, tmp_path) -> None:
    """A pipe, a device or an unreadable file of /proc is a problem, and is neither waited for nor read."""
    os.mkfifo(tmp_path / "pipe")
    for place, why in ((tmp_path / "pipe", "it is not a file"), ("/dev/zero", "it is not a file")):
        [fault] = tls_context(str(place), None, None)
        assert f"{place} cannot be read: {why}; check its path and permissions." == fault.message
    [fault] = tls_context("/proc/self/mem", None, None)
    assert fault.message.startswith("/proc/self/mem is not a PEM certificate")
    [fault] = tls_context(files["cert"], files["key"], "/proc/self/mem")
    assert "tls_client_ca" == fault.setting


@pytest.mark.parametrize("year", [2031, 2061])
def test_the_end_of_a_certificate_is_read(tmp_path: Path, year: int) -> None:
    """Of both forms of time that certificates have; of the first one of a file."""
    ends = dt.datetime(year, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    authority = trustme.CA()
    first = authority.issue_cert("localhost", not_after=ends).cert_chain_pems[0]
    path = tmp_path / "chain.pem"
    path.write_bytes(b"text before it\n" + first.bytes() + authority.cert_pem.bytes())
    assert ends.timestamp() == expiry_of(str(path))


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "x" * 99]
)
def test_what_is_no_certificate_has_no_end(tmp_path: Path, text: str) -> None:
    """Nor has a file that is not there; why it is unusable is told elsewhere."""
    path = tmp_path / "x.pem"
    assert expiry_of(str(path)) is None
    path.write_text(text)
    assert expiry_of(str(path)) is None
