"""Build the server's TLS context: certificate, key and, for mutual TLS, the authorities of clients.

ALPN offers only HTTP/1.1: the parallel streams of HTTP/2 would bypass limits per connection.
"""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path
from typing import Final

import attrs

CERTIFICATE_DAYS: Final = 14
"""Days before its end from which on a certificate is warned of, as of the alert StrataCertificateExpires."""

DAY_SECONDS: Final = 86_400.0

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_VERSION = 0xA0
_UTC_TIME = 0x17


@attrs.frozen
class Fault:
    """A problem of a TLS setting.

    Attributes:
        setting: Setting at fault: ``tls_certificate``, ``tls_key`` or ``tls_client_ca``.
        message: The problem and the way out; never a key's content.
    """

    setting: str
    message: str


class _EncryptedError(Exception):
    """A key is encrypted, and a server cannot type its password."""


def tls_context(
    certificate: str | None, key: str | None, client_ca: str | None
) -> ssl.SSLContext | tuple[Fault, ...] | None:
    """Build a TLS context from PEM files. Blocking.

    Returns:
        The context; or all problems; or None when TLS is not configured.
    """
    faults = []
    if certificate is None:
        for setting, value in (("tls_key", key), ("tls_client_ca", client_ca)):
            if value is not None:
                faults.append(
                    Fault(setting, "requires tls_certificate; set it as well, or remove this setting.")
                )
        return tuple(faults) or None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    unreadable = [
        Fault(setting, f"{value} cannot be read: {why}; check its path and permissions.")
        for setting, value in (
            ("tls_certificate", certificate),
            ("tls_key", key),
            ("tls_client_ca", client_ca),
        )
        if value is not None and (why := _unreadable(value))
    ]
    faults += unreadable
    named = {fault.setting for fault in unreadable}
    if not named & {"tls_certificate", "tls_key"}:
        faults += _load_pair(context, certificate, key)
    if client_ca is not None and "tls_client_ca" not in named:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(_path(client_ca))
        except OSError:  # ssl.SSLError is one
            faults.append(
                Fault("tls_client_ca", f"{client_ca} contains no PEM certificate; name a file with one.")
            )
    return tuple(faults) or context


def _load_pair(context: ssl.SSLContext, certificate: str, key: str | None) -> list[Fault]:
    def ask() -> str:
        raise _EncryptedError

    where, named = (certificate, "tls_certificate") if key is None else (key, "tls_key")
    try:
        context.load_cert_chain(_path(certificate), None if key is None else _path(key), password=ask)
    except _EncryptedError:
        return [Fault(named, f"the key in {where} is encrypted; use a key without a password.")]
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [
                Fault(
                    named,
                    f"the key in {where} does not belong to {certificate}; use the key of that certificate.",
                )
            ]
        return [_no_pair(certificate, key)]
    except OSError:  # a file that opens and cannot be read, such as those of /proc
        return [_no_pair(certificate, key)]
    return []


def _no_pair(certificate: str, key: str | None) -> Fault:
    way_out = "name another file" if key is not None else "name another file, or set tls_key"
    return Fault("tls_certificate", f"{certificate} is not a PEM certificate with its key; {way_out}.")


def _unreadable(text: str) -> str:
    path = Path(_path(text))
    try:
        if path.exists() and not path.is_file():  # reading a pipe would block, reading a device would not end
            return "it is not a file"
        with path.open("rb"):
            return ""
    except OSError as error:
        return error.strerror or "unknown"


def expiry_of(certificate: str) -> float | None:
    """Return the end of the first certificate of a PEM file, in seconds since the epoch. Blocking.

    The standard library tells that of a peer's certificate only, so what precedes it in the certificate is
    read here (RFC 5280, section 4.1). None if the file cannot be read or holds no certificate.
    """
    try:
        text = Path(_path(certificate)).read_text(errors="replace")
        begin = text.index(_BEGIN)
        return _not_after(ssl.PEM_cert_to_DER_cert(text[begin : text.index(_END, begin) + len(_END)]))
    except (OSError, ValueError, IndexError):
        return None


def _not_after(der: bytes) -> float:
    _, body, _ = _element(der, 0)
    _, at, _ = _element(der, body)
    tag, _, after = _element(der, at)
    if tag == _VERSION:
        at = after
    for _ in ("serial number", "signature", "issuer"):
        at = _element(der, at)[2]
    _, at, _ = _element(der, at)  # the validity: its two times
    tag, begin, end = _element(der, _element(der, at)[2])
    text = der[begin:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, from 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the element at an offset, and where its content begins and ends."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    return tag, at, at + length


def _path(text: str) -> str:
    return os.fspath(Path(text).expanduser())
