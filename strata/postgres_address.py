"""The address of a PostgreSQL database, as ``artifact_metadata_dsn`` has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

SCHEMES: Final = frozenset({"postgresql", "postgres", "postgresql+psycopg"})

FORM: Final = "postgresql://user:password@host:5432/database"

_TLS: Final = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslnegotiation", "channel_binding"}
)
_LOGIN: Final = frozenset({"user", "passfile", "require_auth", "gssencmode", "krbsrvname"})
_PLACE: Final = frozenset({"host", "port", "target_session_attrs", "load_balance_hosts"})
OPTIONS: Final = frozenset({"application_name"}) | _TLS | _LOGIN | _PLACE
"""Options of libpq that the address may have behind its question mark."""


class DsnError(ValueError):
    """The text is no address of a database; the message contains nothing of the text that may be secret."""


@attrs.frozen
class PostgresAddress:
    """Where a database is, and how to log in.

    Attributes:
        parameters: Connection parameters of libpq.
    """

    parameters: Mapping[str, str] = attrs.field(repr=False)

    def __str__(self) -> str:
        """Return the address without its password."""
        found = self.parameters
        hosts, ports = found.get("host", "").split(","), found.get("port", "").split(",")
        ports += [""] * (len(hosts) - len(ports))
        places = [f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False)]
        user = f"{found['user']}@" if "user" in found else ""
        return f"postgresql://{user}{','.join(places)}/{found['dbname']}"

    def redacted(self, text: str) -> str:
        """Return a text without the password, should it be in it."""
        password = self.parameters.get("password")
        return text.replace(password, "(redacted)") if password else text


def parse_dsn(text: str) -> PostgresAddress:
    """Return the address that a text means.

    Raises:
        DsnError: If it is none.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in SCHEMES:
        raise DsnError(f"it is not a PostgreSQL address; write {FORM}.")
    if "#" in text:
        raise DsnError("it has a # in it; write a # of the password as %23.")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise DsnError(f"its host is not one; write {FORM}.") from None
    found = dict(_authority(parts.netloc))
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        raise DsnError(f"it must name one database; write {FORM}.")
    given = parse_qsl(parts.query, keep_blank_values=True)
    for key, value in given:
        if key not in OPTIONS:
            raise DsnError(f"the option {_plain(key)} is none of {', '.join(sorted(OPTIONS))}.")
        if key in found or not value:
            raise DsnError(f"the option {key} is given twice, or is empty.")
        found[key] = value
    if "\0" in unquote(text):
        raise DsnError("it has a NUL character in it.")
    return PostgresAddress(found | {"dbname": database})


def _authority(netloc: str) -> Iterator[tuple[str, str]]:
    login, _, places = netloc.rpartition("@")
    user, colon, password = login.partition(":")
    if user:
        yield "user", unquote(user)
    if colon and password:
        yield "password", unquote(password)
    hosts, ports = [], []
    for place in filter(None, places.split(",")):
        host, port = place, ""
        if place.startswith("["):  # IPv6
            host, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        elif ":" in place:
            host, _, port = place.rpartition(":")
        if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):  # noqa: PLR2004 - TCP's
            raise DsnError("a port is no number from 1 to 65535; write a : of the password as %3A.")
        hosts.append(unquote(host))
        ports.append(port)
    if hosts:
        yield "host", ",".join(hosts)
        if any(ports):
            yield "port", ",".join(ports)


def _plain(key: str) -> str:
    """Return an option's name, unless what stands in its place may be anything."""
    return key if key.isascii() and key.replace("_", "").isalnum() and len(key) < 30 else "behind the ?"  # noqa: PLR2004
