"""Tokens of callers are exchanged when they are needed, kept while they last, and shown nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from token_service import CLIENT, SECRET, TokenService, claims_of, token_service

from strata.config.fields import CatalogCallers
from strata.outcomes import Reason, RefusalError
from strata.tables.callers import token_exchange
from strata.tables.callers.token_exchange import GRANT, ExchangedToken

JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.fixture
def tokens() -> Iterator[TokenService]:
    with token_service() as service:
        yield service


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    path = tmp_path / "credential"
    path.write_text(f"{CLIENT}:{SECRET}\n")
    return path


@pytest.fixture
def of(tokens: TokenService, credential: Path) -> Callable[..., ExchangedToken]:
    def made(identity: str = "ana", now: Callable[[], float] = lambda: 0.0, **more: object) -> ExchangedToken:
        settings = CatalogCallers(
            pass_by="token_exchange",
            **{"token_url": tokens.uri, "credential_file": str(credential), **more},  # type: ignore[arg-type]
        )
        return ExchangedToken("lake", settings, identity, now=now, wall=lambda: 1_000_000.5)

    return made


def sent(token: ExchangedToken) -> str:
    """Return the ``Authorization`` of a request."""
    return token(SimpleNamespace(headers={})).headers["Authorization"]


def refusal(token: ExchangedToken) -> tuple[Reason, str | None, str]:
    with pytest.raises(RefusalError) as caught:
        sent(token)
    found = caught.value.refused
    assert "secret" not in f"{found}{caught.value!r}{token!r}"
    return found.reason, found.code, found.detail


def test_the_subject_is_named_by_a_jwt_that_the_clients_secret_signs(tokens, of) -> None:
    """It is of one minute, for this token service, and has an id of its own."""
    assert "Bearer secret-token-ana-1" == sent(of(audience="lake", scope="read list"))
    (form,) = tokens.forms
    claims = claims_of(form["subject_token"])
    assert (GRANT, JWT, "lake", "read list") == tuple(
        form[key] for key in ("grant_type", "subject_token_type", "audience", "scope")
    )
    assert {"iss": CLIENT, "sub": "ana", "aud": tokens.uri, "iat": 1_000_000, "exp": 1_000_060} == {
        key: claims[key] for key in ("iss", "sub", "aud", "iat", "exp")
    }
    sent(of())
    assert claims["jti"] != claims_of(tokens.forms[1]["subject_token"])["jti"]
    assert {"audience", "scope"}.isdisjoint(tokens.forms[1])


def test_a_service_that_takes_the_clients_word_gets_the_bare_identity(tokens, of) -> None:
    """Under the type that the service has for it."""
    sent(of(subject="identity", subject_token_type="urn:example:principal"))
    assert ("ana", "urn:example:principal") == tuple(
        tokens.forms[0][key] for key in ("subject_token", "subject_token_type")
    )


@pytest.mark.parametrize(
    ("expires_in", "kept"),
    [
        (800, 770), (100, 90), ("100", 90), (None, 300), ("soon", 300), (-5, 0), (3600, 900), ("1e300", 900),
        (float("inf"), 300), (float("nan"), 300), ("-inf", 300), (10**400, 300),
    ],
)  # fmt: skip
def test_a_token_is_kept_until_shortly_before_its_end(tokens, of, expires_in, kept) -> None:
    """One that is not said to end is exchanged after five minutes, and any other one after fifteen."""
    now = [0.0]
    tokens.expires_in = expires_in
    token = of(now=lambda: now[0])
    assert "Bearer secret-token-ana-1" == sent(token)
    now[0] = max(0.0, kept - 0.1)
    assert f"Bearer secret-token-ana-{1 if kept else 2}" == sent(token)
    now[0] = kept
    assert f"Bearer secret-token-ana-{2 if kept else 3}" == sent(token)


def test_a_token_that_the_catalog_does_not_accept_is_exchanged_anew(tokens, of) -> None:
    """Though its time is not over."""
    token = of()
    sent(token)
    token.forget()
    assert "Bearer secret-token-ana-2" == sent(token)


@pytest.mark.parametrize("answer", [(400, "invalid_grant"), (403, "access_denied"), (400, "invalid_target")])
def test_an_identity_that_is_not_accepted_is_a_refusal_of_that_caller(tokens, of, answer) -> None:
    """With the code of the service, whose other words are not repeated; others get their tokens."""
    tokens.refused["eve"] = answer
    reason, code, detail = refusal(of("eve"))
    assert (Reason.FORBIDDEN, "identity_not_accepted") == (reason, code)
    assert detail == (f"The catalog lake does not accept your identity: its token service says {answer[1]}")
    assert "Bearer secret-token-ana-1" == sent(of("ana"))
    assert "says status 403" in (tokens.refused.update(eve=(403, "secret words")), refusal(of("eve"))[2])[1]


def test_a_server_that_is_not_accepted_is_unavailable_with_the_reason(of, credential) -> None:
    """It is the operator who mends it, not the caller; a new file is read without a restart."""
    token = of()
    credential.write_text(f"{CLIENT}:wrong-secret")
    reason, code, detail = refusal(token)
    assert (Reason.UNAVAILABLE, "token_exchange_failed") == (reason, code)
    assert detail.endswith("its token service does not accept this server (invalid_client)")
    credential.unlink()
    assert refusal(token)[2].endswith("the server's credential for it cannot be read")
    credential.write_text(f"{CLIENT}:{SECRET}")
    assert "Bearer secret-token-ana-1" == sent(token)


@pytest.mark.parametrize(
    "broken",
    [
        (500, b"secret"),
        (503, b"{}"),
        (200, b"<html>secret"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"access_token": 5}'),
        (200, b'{"access_token": "secret\\r\\nX: y"}'),
        (307, b""),
        (429, b'{"error": "secret"}'),
    ],
)
def test_a_service_that_gives_no_token_is_unavailable(tokens, of, broken) -> None:
    """A redirect is not followed: it would be sent the signed identity."""
    tokens.broken = broken
    reason, code, detail = refusal(of())
    assert (Reason.UNAVAILABLE, "token_exchange_failed") == (reason, code)
    assert detail == "The catalog lake cannot be asked on your behalf: its token service gives no token"
    assert [] == tokens.forms


def test_a_service_that_is_not_there_or_says_too_much_is_unavailable(tokens, of, monkeypatch) -> None:
    """Its answer is read up to a bound."""
    assert Reason.UNAVAILABLE is refusal(of(token_url="http://127.0.0.1:9/token"))[0]
    monkeypatch.setattr(token_exchange, "MOST_BYTES", 10)
    assert Reason.UNAVAILABLE is refusal(of())[0]
