"""Identity: which raw headers identify a caller, and which status every other combination gets."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strata.auth import DEFAULT_TENANT, IdentityContract, IdentityRefused, Principal, identify, request_id

TOKEN = "correct-horse-battery"
PREVIOUS = "previous-horse-battery"
CONTRACT = IdentityContract("trusted_proxy", (TOKEN, PREVIOUS), multi_tenant=True, require_tenant=True)
OPTIONAL_TENANT = IdentityContract("trusted_proxy", (TOKEN,), multi_tenant=True)
ONE_TENANT = IdentityContract("trusted_proxy", (TOKEN,))
RENAMED = IdentityContract(
    "trusted_proxy",
    (TOKEN,),
    principal_header="X-Auth-User",
    scopes_header="X-Auth-Groups",
    tenant_header="X-Org",
    multi_tenant=True,
    require_tenant=True,
)
PERSONAL = IdentityContract("none")
PERSONAL_NAMED = IdentityContract("none", personal_user_header="X-Forwarded-User")

Pairs = list[tuple[bytes, bytes]]

T = (b"X-Strata-Proxy-Token", TOKEN.encode())
P = (b"X-Strata-Principal", b"alice")
N = (b"X-Tenant-ID", b"team-a")


def principal(value: bytes) -> Pairs:
    return [T, (b"X-Strata-Principal", value), N]


def scopes(value: bytes) -> Pairs:
    return [T, P, N, (b"X-Strata-Scopes", value)]


def tenant(value: bytes) -> Pairs:
    return [T, P, (b"X-Tenant-ID", value)]


def token(value: bytes) -> Pairs:
    return [(b"X-Strata-Proxy-Token", value), P, N]


ALICE = Principal("alice", "team-a", frozenset())

#: (description of the request, headers, the caller)
ACCEPTED: list[tuple[str, Pairs, Principal]] = [
    ("plain", [T, P, N], ALICE),
    ("names in lower case", [(name.lower(), value) for name, value in (T, P, N)], ALICE),
    ("names in upper case", [(name.upper(), value) for name, value in (T, P, N)], ALICE),
    ("the previous token during rotation", token(PREVIOUS.encode()), ALICE),
    ("the second tenant header alone", [T, P, (b"X-Strata-Tenant", b"team-a")], ALICE),
    ("both tenant headers with one value", [T, P, N, (b"X-Strata-Tenant", b"team-a")], ALICE),
    ("strangers' headers", [(b"X-Strata-Other", b"1"), (b"X-Other", b"2"), T, P, N], ALICE),
    ("a stranger's header twice", [(b"Accept", b"a"), (b"Accept", b"b"), T, P, N], ALICE),
    ("spaces around the principal", principal(b" \talice\t "), ALICE),
    ("spaces around the tenant", tenant(b" team-a "), ALICE),
    ("principal of 256 characters", principal(b"p" * 256), Principal("p" * 256, "team-a", frozenset())),
    (
        "256 characters of two bytes each",
        principal("é".encode() * 256),
        Principal("é" * 256, "team-a", frozenset()),
    ),
    (
        "a distinguished name with spaces",
        principal(b"CN=Al Ice,O=X"),
        Principal("CN=Al Ice,O=X", "team-a", frozenset()),
    ),
    ("unicode principal in NFC", principal("Zoë".encode()), Principal("Zoë", "team-a", frozenset())),
    (
        "principal in another case is another id",
        principal(b"Alice"),
        Principal("Alice", "team-a", frozenset()),
    ),
    ("a principal that looks like a pattern", principal(b"*"), Principal("*", "team-a", frozenset())),
    ("tenant of one character", tenant(b"7"), Principal("alice", "7", frozenset())),
    ("tenant of 64 characters", tenant(b"a" * 64), Principal("alice", "a" * 64, frozenset())),
    (
        "tenant in another case is another tenant",
        tenant(b"Team-A"),
        Principal("alice", "Team-A", frozenset()),
    ),
    ("tenant with _ and -", tenant(b"a_-b"), Principal("alice", "a_-b", frozenset())),
    ("blank scopes", scopes(b""), ALICE),
    ("scopes of spaces", scopes(b"   "), ALICE),
    ("one scope", scopes(b"admin:cache"), Principal("alice", "team-a", frozenset({"admin:cache"}))),
    (
        "repeated scopes, many spaces",
        scopes(b" a  b a "),
        Principal("alice", "team-a", frozenset({"a", "b"})),
    ),
    ("scope of 128 characters", scopes(b"s" * 128), Principal("alice", "team-a", frozenset({"s" * 128}))),
]

#: (description of the request, headers, status, code)
REFUSED: list[tuple[str, Pairs, int, str]] = [
    ("no headers at all", [], 401, "invalid_token"),
    ("no token", [P, N], 401, "invalid_token"),
    ("empty token", token(b""), 401, "invalid_token"),
    ("wrong token", token(b"wrong-horse-battery-1"), 401, "invalid_token"),
    ("token in another case", token(TOKEN.upper().encode()), 401, "invalid_token"),
    ("first part of the token", token(TOKEN[:-1].encode()), 401, "invalid_token"),
    ("token and one more character", token(TOKEN.encode() + b"y"), 401, "invalid_token"),
    ("token and a space", token(TOKEN.encode() + b" "), 401, "invalid_token"),
    ("token and NUL", token(TOKEN.encode() + b"\0"), 401, "invalid_token"),
    ("non-ASCII token", token("correct-hörse-battery".encode()), 401, "invalid_token"),
    ("token in latin-1", token(b"correct-h\xf6rse-battery"), 401, "invalid_token"),
    ("both accepted tokens joined", token(f"{TOKEN},{PREVIOUS}".encode()), 401, "invalid_token"),
    ("the token in another header", [(b"Authorization", TOKEN.encode()), P, N], 401, "invalid_token"),
    ("no token, and a malformed principal", [(P[0], b"\x07"), N], 401, "invalid_token"),
    ("no token, and no tenant", [P], 401, "invalid_token"),
    ("no token, and a principal sent twice", [P, P, N], 401, "invalid_token"),
    (
        "wrong token, and an underscore twin",
        [*token(b"x"), (b"X_Strata_Principal", b"m")],
        401,
        "invalid_token",
    ),
    ("wrong token, and two tenants", [*token(b"x"), (b"X-Strata-Tenant", b"z")], 401, "invalid_token"),
    ("token twice, both right", [T, T, P, N], 400, "duplicate_header"),
    ("token twice, the first right", [T, (T[0], b"x"), P, N], 400, "duplicate_header"),
    ("token twice, the last right", [(T[0], b"x"), T, P, N], 400, "duplicate_header"),
    ("token twice, none right", [(T[0], b"x"), (T[0], b"x"), P, N], 400, "duplicate_header"),
    ("token twice in two cases", [T, (T[0].lower(), T[1]), P, N], 400, "duplicate_header"),
    ("the token's underscore twin alone", [(b"X_Strata_Proxy_Token", T[1]), P, N], 400, "twin_header"),
    ("the token and its twin", [T, (b"x-strata_proxy-token", T[1]), P, N], 400, "twin_header"),
    ("no principal", [T, N], 401, "missing_principal"),
    ("empty principal", principal(b""), 401, "missing_principal"),
    ("blank principal", principal(b" \t "), 401, "missing_principal"),
    ("no principal and no tenant", [T], 401, "missing_principal"),
    ("principal of 257 characters", principal(b"p" * 257), 400, "malformed_principal"),
    ("principal of 100 KB", principal(b"p" * 100_000), 400, "malformed_principal"),
    ("principal with BEL", principal(b"a\x07b"), 400, "malformed_principal"),
    ("principal with NUL", principal(b"alice\0"), 400, "malformed_principal"),
    ("principal with DEL", principal(b"a\x7f"), 400, "malformed_principal"),
    ("principal with a line break", principal(b"a\r\nX-Strata-Scopes: admin:*"), 400, "malformed_principal"),
    ("principal with a tab inside", principal(b"a\tb"), 400, "malformed_principal"),
    ("principal with a C1 control", principal("a\x85b".encode()), 400, "malformed_principal"),
    ("principal with a zero-width space", principal("a\u200bb".encode()), 400, "malformed_principal"),
    ("principal turned around by U+202E", principal("a\u202eb".encode()), 400, "malformed_principal"),
    ("principal with a no-break space", principal("a\u00a0b".encode()), 400, "malformed_principal"),
    ("principal with a line separator", principal("a\u2028b".encode()), 400, "malformed_principal"),
    ("principal in NFD", principal("Zoe\u0308".encode()), 400, "malformed_principal"),
    ("principal in latin-1", principal(b"Zo\xeb"), 400, "malformed_principal"),
    ("principal in overlong UTF-8", principal(b"\xc1\xa1lice"), 400, "malformed_principal"),
    ("principal with a surrogate", principal(b"\xed\xa0\x80"), 400, "malformed_principal"),
    ("principal twice, one value", [T, P, P, N], 400, "duplicate_header"),
    ("principal twice, two values", [T, P, (P[0], b"m"), N], 400, "duplicate_header"),
    ("principal twice, the second blank", [T, P, (P[0], b""), N], 400, "duplicate_header"),
    ("principal twice in two cases", [T, P, (P[0].upper(), b"m"), N], 400, "duplicate_header"),
    ("underscore twin alone", [T, (b"X_Strata_Principal", b"alice"), N], 400, "twin_header"),
    ("underscore twin after", [T, P, N, (b"X_Strata_Principal", b"m")], 400, "twin_header"),
    ("underscore twin before", [(b"X_Strata_Principal", b"m"), T, P, N], 400, "twin_header"),
    ("one underscore", [T, P, N, (b"X-Strata_Principal", b"m")], 400, "twin_header"),
    ("underscores and upper case", [T, P, N, (b"X_STRATA_PRINCIPAL", b"m")], 400, "twin_header"),
    ("dots for hyphens", [T, P, N, (b"x.strata.principal", b"m")], 400, "twin_header"),
    ("twin with a space at its end", [T, P, N, (b"X-Strata-Principal ", b"m")], 400, "twin_header"),
    ("twin of the scopes header", [T, P, N, (b"X_Strata_Scopes", b"admin:*")], 400, "twin_header"),
    ("twin of the tenant header", [T, P, N, (b"X_Tenant_ID", b"team-b")], 400, "twin_header"),
    ("twin of the second tenant header", [T, P, N, (b"X-Strata_Tenant", b"team-a")], 400, "twin_header"),
    (
        "a long s in the name",
        [T, P, N, ("X-\u017ftrata-Principal".encode(), b"m")],
        400,
        "malformed_header_name",
    ),
    ("no tenant", [T, P], 400, "missing_tenant"),
    ("empty tenant", tenant(b""), 400, "malformed_tenant"),
    ("blank tenant", tenant(b"  "), 400, "malformed_tenant"),
    ("tenant of 65 characters", tenant(b"a" * 65), 400, "malformed_tenant"),
    ("the internal default tenant", tenant(b"_default"), 400, "malformed_tenant"),
    ("tenant beginning with a hyphen", tenant(b"-a"), 400, "malformed_tenant"),
    ("tenant beginning with an underscore", tenant(b"_a"), 400, "malformed_tenant"),
    ("tenant that climbs", tenant(b"../team-b"), 400, "malformed_tenant"),
    ("tenant with a dot", tenant(b"team.a"), 400, "malformed_tenant"),
    ("tenant with a space", tenant(b"team a"), 400, "malformed_tenant"),
    ("two tenants joined by a comma", tenant(b"team-a, team-b"), 400, "malformed_tenant"),
    ("tenant and a line break", tenant(b"team-a\n"), 400, "malformed_tenant"),
    ("unicode digit in the tenant", tenant("team\u0661".encode()), 400, "malformed_tenant"),
    ("fullwidth tenant", tenant("\uff41".encode()), 400, "malformed_tenant"),
    ("tenant twice, one value", [T, P, N, N], 400, "duplicate_header"),
    ("tenant twice, two values", [T, P, N, (N[0], b"team-b")], 400, "duplicate_header"),
    ("two tenants under two names", [T, P, N, (b"X-Strata-Tenant", b"team-b")], 400, "conflicting_tenants"),
    ("two tenants differing in case", [T, P, N, (b"X-Strata-Tenant", b"Team-A")], 400, "conflicting_tenants"),
    ("second tenant header blank", [T, P, N, (b"X-Strata-Tenant", b"")], 400, "conflicting_tenants"),
    (
        "two malformed tenants, equal",
        [T, P, (N[0], b"a/"), (b"X-Strata-Tenant", b"a/")],
        400,
        "malformed_tenant",
    ),
    ("scope of 129 characters", scopes(b"s" * 129), 400, "malformed_scopes"),
    ("scopes of 4097 characters", scopes(b"ab " * 1365 + b"ab"), 400, "malformed_scopes"),
    ("scopes joined by a comma", scopes(b"a,admin:*"), 400, "malformed_scopes"),
    ("scopes split by a comma and a space", scopes(b"a, admin:*"), 400, "malformed_scopes"),
    ("scopes split by a tab", scopes(b"a\tb"), 400, "malformed_scopes"),
    ("scope with a control character", scopes(b"a\x01"), 400, "malformed_scopes"),
    ("scope outside ASCII", scopes("é".encode()), 400, "malformed_scopes"),
    ("scope with a quote", scopes(b'"admin:cache"'), 400, "malformed_scopes"),
    ("scopes twice", [*scopes(b"a"), (b"X-Strata-Scopes", b"admin:*")], 400, "duplicate_header"),
]


def test_the_identity_matrix_has_sixty_combinations_or_more() -> None:
    """Names are unique so that a failure names its row."""
    names = [row[0] for row in (*ACCEPTED, *REFUSED)]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(("headers", "caller"), [pytest.param(h, c, id=name) for name, h, c in ACCEPTED])
def test_identity_matrix_accepts(headers: Pairs, caller: Principal) -> None:
    """Valid headers give exactly the caller they state."""
    assert identify(headers, CONTRACT) == caller


@pytest.mark.parametrize(
    ("headers", "status", "code"), [pytest.param(h, s, c, id=name) for name, h, s, c in REFUSED]
)
def test_identity_matrix_refuses(headers: Pairs, status: int, code: str) -> None:
    """Invalid headers are refused with the status and code of the fault."""
    refused = identify(headers, CONTRACT)
    assert isinstance(refused, IdentityRefused)
    assert (refused.status, refused.code) == (status, code)


def test_every_wrong_token_gets_the_same_answer() -> None:
    """Missing, empty, wrong and non-ASCII tokens get indistinguishable answers."""
    answers = {
        identify(headers, CONTRACT)
        for headers in ([], token(b""), token(b"wrong"), token(TOKEN[:-1].encode()), token(b"\xff"), [P, P])
    }
    assert len(answers) == 1


def test_a_doubled_token_is_refused_the_same_whatever_its_values() -> None:
    """Two token headers cannot be used to guess two tokens with one request."""
    right = identify([T, (T[0], b"x"), P, N], CONTRACT)
    wrong = identify([(T[0], b"y"), (T[0], b"x"), P, N], CONTRACT)
    assert right == wrong


def test_refusals_before_the_token_is_right_count_as_failed_authentication() -> None:
    """The limit counts every guess, and no malformed request of an authenticated proxy."""
    for name, headers, _, code in REFUSED:
        refused = identify(headers, CONTRACT)
        assert isinstance(refused, IdentityRefused)
        assert refused.authenticated == (code != "invalid_token" and "token" not in name), name


@pytest.mark.parametrize("headers", [h for _, h, _, _ in REFUSED])
def test_refusals_never_echo_a_value(headers: Pairs) -> None:
    """A refusal's text consists of the contract's words, without header values."""
    refused = identify(headers, CONTRACT)
    assert isinstance(refused, IdentityRefused)
    words = refused.detail.lower()
    assert TOKEN not in words
    for value in ("team-b", "alice", "zo", "admin:", "\x07", "../"):
        assert value not in words


def test_an_unauthenticated_caller_does_not_learn_configured_header_names() -> None:
    """Configured header names appear only in answers to the authenticated proxy."""
    for headers in ([], [(b"X-Auth-User", b"m"), (b"X_Auth_User", b"m")], [(T[0], b"x"), (b"X-Org", b"/")]):
        refused = identify(headers, RENAMED)
        assert isinstance(refused, IdentityRefused)
        assert "X-Auth" not in refused.detail
        assert "X-Org" not in refused.detail


def test_renamed_headers_replace_the_usual_ones() -> None:
    """With other names configured the default names have no effect, except the second tenant name."""
    caller = identify([T, (b"x-auth-user", b"zoe"), (b"x-org", b"o"), (b"x-auth-groups", b"a b"), P], RENAMED)
    assert caller == Principal("zoe", "o", frozenset({"a", "b"}))
    assert identify([T, (b"x-auth-user", b"zoe"), (b"X-Strata-Tenant", b"o")], RENAMED) == Principal(
        "zoe", "o", frozenset()
    )
    refused = identify([T, P, N], RENAMED)
    assert isinstance(refused, IdentityRefused)
    assert (refused.status, refused.code, refused.detail) == (401, "missing_principal", "Missing X-Auth-User")


def test_tenant_header_may_be_the_second_name_itself() -> None:
    """X-Strata-Tenant as the tenant header is one header, not two in conflict."""
    contract = IdentityContract("trusted_proxy", (TOKEN,), tenant_header="X-Strata-Tenant", multi_tenant=True)
    assert identify([T, P, (b"X-Strata-Tenant", b"a")], contract) == Principal("alice", "a", frozenset())


def test_without_a_required_tenant_the_default_one_is_used() -> None:
    """Without a tenant header, and none required, the tenant is the default one."""
    assert identify([T, P], OPTIONAL_TENANT) == Principal("alice", DEFAULT_TENANT, frozenset())


def test_a_blank_tenant_never_falls_into_the_default_one() -> None:
    """An empty tenant variable in the proxy is refused, even where a tenant is optional."""
    refused = identify(tenant(b""), OPTIONAL_TENANT)
    assert isinstance(refused, IdentityRefused)
    assert (refused.status, refused.code) == (400, "malformed_tenant")


def test_without_multi_tenancy_there_is_one_tenant_and_malformed_tenants_are_still_refused() -> None:
    """With tenancy off there is one tenant, and malformed or repeated tenant headers are still refused."""
    assert identify([T, P, N], ONE_TENANT) == Principal("alice", DEFAULT_TENANT, frozenset())
    assert identify([T, P], ONE_TENANT) == Principal("alice", DEFAULT_TENANT, frozenset())
    for headers in (tenant(b"_default"), [T, P, N, N], [T, P, N, (b"X-Strata-Tenant", b"b")]):
        refused = identify(headers, ONE_TENANT)
        assert isinstance(refused, IdentityRefused)
        assert refused.status == 400


@pytest.mark.parametrize(
    ("held", "wanted", "holds"),
    [
        ("admin:cache", "admin:cache", True),
        ("admin:cache", "admin:tenants", False),
        ("admin:*", "admin:cache", True),
        ("admin:*", "admin:*", True),
        ("admin:cache", "admin:*", False),
        ("notebook:*", "notebook:write", True),
        ("notebook:*", "admin:cache", False),
        ("admin:*", "administrator", False),
        ("Admin:*", "admin:cache", False),
        ("ADMIN:CACHE", "admin:cache", False),
        ("*", "admin:cache", False),
        ("artifacts:*", "artifacts:write", False),
        ("admin", "admin:cache", False),
        ("", "admin:cache", False),
    ],
)
def test_scopes_are_exact_but_for_the_two_families(held: str, wanted: str, *, holds: bool) -> None:
    """Only admin:* and notebook:* are families, and letter case counts."""
    caller = identify(scopes(held.encode()), CONTRACT)
    assert isinstance(caller, Principal)
    assert caller.has_scope(wanted) is holds


def test_personal_mode_trusts_no_proxy_header() -> None:
    """Without authentication any client can send the proxy's headers, so they have no effect."""
    local = Principal("local", DEFAULT_TENANT, frozenset(), unrestricted=True)
    for headers in ([], [T, P, N], [P, P], [(b"X_Strata_Principal", b"m")], [(N[0], b"///")]):
        assert identify(headers, PERSONAL) == local
        assert identify(headers, PERSONAL_NAMED) == local
    assert local.has_scope("admin:cache")


def test_personal_mode_can_name_its_user() -> None:
    """The personal user header follows the principal's grammar and may be sent once."""
    caller = identify([(b"x-forwarded-user", b"zoe@example.com")], PERSONAL_NAMED)
    assert caller == Principal("zoe@example.com", DEFAULT_TENANT, frozenset(), unrestricted=True)
    for headers, code in (
        ([(b"x-forwarded-user", b"a\x01")], "malformed_principal"),
        ([(b"x-forwarded-user", b"a")] * 2, "duplicate_header"),
        ([(b"X_Forwarded_User", b"a")], "twin_header"),
    ):
        refused = identify(headers, PERSONAL_NAMED)
        assert isinstance(refused, IdentityRefused)
        assert (refused.status, refused.code) == (400, code)


@pytest.mark.parametrize(
    "broken",
    [
        {"tokens": ()},
        {"tokens": ("",)},
        {"tokens": (TOKEN, "")},
        {"tokens": (TOKEN + "\n",)},
        {"tokens": ("pässword-pässword",)},
        {"tokens": (TOKEN,), "principal_header": "X Principal"},
        {"tokens": (TOKEN,), "principal_header": ""},
        {"tokens": (TOKEN,), "principal_header": "X-Tenant-ID"},
        {"tokens": (TOKEN,), "principal_header": "x_tenant_id"},
        {"tokens": (TOKEN,), "scopes_header": "X-Strata-Proxy-Token"},
        {"tokens": (TOKEN,), "tenant_header": "---"},
    ],
)
def test_a_contract_that_could_authenticate_wrongly_cannot_be_made(broken: dict[str, object]) -> None:
    """An empty token or two roles under one name is refused at start; the message contains no token."""
    with pytest.raises(ValueError, match=r".") as caught:
        IdentityContract("trusted_proxy", **broken)  # type: ignore[arg-type]  # wrong values are the point
    assert TOKEN not in str(caught.value)


def test_tokens_are_not_shown_by_repr() -> None:
    """A contract can be logged without its tokens."""
    assert TOKEN not in repr(CONTRACT)


NAMES = st.sampled_from(
    [T[0], P[0], N[0], b"X-Strata-Scopes", b"X-Strata-Tenant", b"x_strata_proxy_token", b"X_STRATA_PRINCIPAL"]
)
HEADERS = st.lists(st.tuples(NAMES | st.binary(max_size=30), st.binary(max_size=40)), max_size=8)


@settings(max_examples=300)
@given(headers=HEADERS)
@example(headers=[(T[0], b"")])
@example(headers=[P, N])
def test_never_raises_and_never_authenticates_without_the_exact_token(headers: Pairs) -> None:
    """Without an accepted token there is no caller, whatever the bytes are."""
    for contract in (CONTRACT, OPTIONAL_TENANT, RENAMED):
        answer = identify(headers, contract)
        assert isinstance(answer, IdentityRefused)
        assert not answer.authenticated


@settings(max_examples=300)
@given(headers=HEADERS, where=st.integers(0, 8))
def test_with_the_token_a_caller_is_whole_or_refused(headers: Pairs, where: int) -> None:
    """With an accepted token, any other bytes give a caller with well-formed parts, or a refusal."""
    sent = [*headers[:where], T, *headers[where:]]
    caller = identify(sent, OPTIONAL_TENANT)
    if isinstance(caller, IdentityRefused):
        assert caller.status in {400, 401}
        return
    assert [value for name, value in sent if name.lower().replace(b"_", b"-") == T[0].lower()] == [T[1]]
    assert caller.id.isprintable()
    assert 1 <= len(caller.id) <= 256
    assert caller.tenant == DEFAULT_TENANT or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", caller.tenant)
    assert all(re.fullmatch(r"[!-~]{1,128}", scope) for scope in caller.scopes)


@given(order=st.permutations([T, P, N, (b"X-Strata-Scopes", b"a b"), (b"Accept", b"*/*")]))
def test_header_order_never_matters(order: Pairs) -> None:
    """The same headers in any order give the same caller."""
    assert identify(order, CONTRACT) == Principal("alice", "team-a", frozenset({"a", "b"}))


@given(headers=HEADERS)
def test_personal_mode_never_raises(headers: Pairs) -> None:
    """Without authentication every request has a caller or a 400, whatever its bytes."""
    assert isinstance(identify(headers, PERSONAL), Principal)
    answer = identify(headers, PERSONAL_NAMED)
    assert isinstance(answer, Principal) or answer.status == 400


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([b"abc"], True),
        ([b"a b"], True),
        ([b"x" * 128], True),
        ([b"!~"], True),
        ([b"x" * 129], False),
        ([b""], False),
        ([b"  "], False),
        ([b"a\nb"], False),
        ([b"a\x7f"], False),
        (["é".encode()], False),
        ([b"a", b"a"], False),
        ([b"a", b"b", b"c"], False),
        ([], False),
    ],
)
def test_request_id_is_kept_only_when_it_is_safe_to_repeat(sent: list[bytes], *, kept: bool) -> None:
    """One printable ASCII id of 1 to 128 characters is used; anything else is replaced."""
    headers = [(b"x-Request-ID", value) for value in sent]
    answer = request_id(headers, random.Random(1))
    assert answer == (sent[0].decode() if kept else f"{random.Random(1).getrandbits(128):032x}")


@given(
    headers=st.lists(st.tuples(st.just(b"x-request-id") | st.binary(max_size=13), st.binary(max_size=140)))
)
def test_request_id_is_always_printable_ascii(headers: Pairs) -> None:
    """Whatever was sent, the id fits a response header."""
    assert re.fullmatch(r"[ -~]{1,128}", request_id(headers, random.Random(2)))


DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "identity.md"


def documented_rows() -> list[tuple[str, str, str]]:
    section = DOCUMENT.read_text("utf-8").split("## What is answered")[1].split("\n## ")[0]
    return re.findall(r"^\| (.+?) \| (\d{3}) \| (?:`(\w+)` )?\|$", section, flags=re.MULTILINE)


def documented_headers(request: str) -> Pairs:
    """Return the headers that a row of the reference describes."""
    usual = dict([T, P, N])
    named = re.search(r"`([^`:]+)(?::\s*([^`]*))?`", request)
    if named is None:
        return list(usual.items())
    name, value = (
        re.sub(r"<U\+([0-9A-F]{4})>", lambda match: chr(int(match[1], 16)), text or "").encode()
        for text in named.groups()
    )
    if request.startswith("also "):
        return [*usual.items(), (name, value)]
    assert name in usual
    if request.startswith("without "):
        return [(n, v) for n, v in usual.items() if n != name]
    return [(n, value if n == name else v) for n, v in usual.items()]


def test_the_reference_lists_what_is_answered() -> None:
    """The reference's table is found completely, so that the next test reads every row."""
    text = DOCUMENT.read_text("utf-8").split("## What is answered")[1].split("\n## ")[0]
    assert len(documented_rows()) == text.count("\n| ") - 1 >= 20


@pytest.mark.parametrize(("request_line", "status", "code"), documented_rows())
def test_the_reference_is_true(request_line: str, status: str, code: str) -> None:
    """The code answers every row of the identity reference as documented."""
    answer = identify(documented_headers(request_line), CONTRACT)
    if isinstance(answer, Principal):
        assert (status, code) == ("200", "")
    else:
        assert (status, code) == (str(answer.status), answer.code)
