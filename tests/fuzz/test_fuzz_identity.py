"""Identity from arbitrary headers: a refusal, or a caller that the headers name."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest
from fuzz_kit import ODD_TEXT, SECRET, fuzz, texts
from hypothesis import assume, given
from hypothesis import strategies as st

from strata.auth import DEFAULT_TENANT, IdentityContract, IdentityRefused, Principal, identify, request_id

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-characters"
PREVIOUS = "the-token-that-was-used-before"

CONTRACTS = [
    IdentityContract("trusted_proxy", (TOKEN,), multi_tenant=True, require_tenant=True),
    IdentityContract("trusted_proxy", (TOKEN, PREVIOUS), multi_tenant=True),
    IdentityContract("trusted_proxy", (TOKEN,)),
    IdentityContract(
        "trusted_proxy",
        (TOKEN,),
        principal_header="Remote-User",
        scopes_header="Remote-Scopes",
        tenant_header="Remote-Org",
        multi_tenant=True,
    ),
    IdentityContract("none", personal_user_header="Remote-User"),
    IdentityContract("none"),
]

NAMES = [
    b"X-Strata-Proxy-Token",
    b"X-Strata-Principal",
    b"X-Strata-Scopes",
    b"X-Tenant-ID",
    b"X-Strata-Tenant",
    b"Remote-User",
    b"Remote-Scopes",
    b"Remote-Org",
]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def _name(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(NAMES))
    match draw(st.integers(0, 9)):
        case 0:
            return name.lower()
        case 1:
            return name.replace(b"-", b"_")
        case 2:
            return name.replace(b"-", draw(st.sampled_from([b".", b" ", b"--", b"", b"\xe2\x80\x90"])), 1)
        case 3:
            return draw(st.sampled_from([b"-", b"_", b" ", b"\t", b"HTTP_"])) + name
        case 4:
            return name + draw(st.sampled_from([b"-", b"_", b" ", b"\x00", b":"]))
        case 5:
            return name.replace(b"S", b"\xc5\xbf").replace(b"k", b"\xe2\x84\xaa")
        case 6:
            return draw(st.binary(max_size=12))
        case _:
            return name


good_values = st.sampled_from(
    [TOKEN.encode(), PREVIOUS.encode(), b"ana", b"ana@example.com", b"team-a", b"team-b", b"admin:*", b"a b"]
)
values = st.one_of(
    good_values, st.binary(max_size=12), texts.map(_encode), good_values.map(lambda v: b" " + v + b"\t")
)
headers = st.lists(st.tuples(_name(), values), max_size=6)
sound = st.just(
    [(b"x-strata-proxy-token", TOKEN.encode()), (b"x-strata-principal", b"ana"), (b"x-tenant-id", b"team-a")]
)


@fuzz
@given(
    contract=st.sampled_from(CONTRACTS),
    given_headers=st.one_of(headers, st.builds(lambda a, b: [*a, *b], sound, headers)),
)
def test_any_headers_give_a_caller_they_name_or_a_refusal(contract, given_headers) -> None:
    """The caller's parts are well-formed, each stated by exactly one header."""
    found = identify(given_headers, contract)
    stated = [value.strip(b" \t") for _, value in given_headers]
    if isinstance(found, IdentityRefused):
        assert found.status in (400, 401)
        assert SECRET not in found.detail
        return
    assert isinstance(found, Principal)
    if contract.mode == "none":
        assert DEFAULT_TENANT == found.tenant
        assert found.unrestricted
        return
    assert not found.unrestricted
    tokens = [v for n, v in given_headers if n.lower() == b"x-strata-proxy-token"]
    assert len(tokens) == 1
    assert tokens[0].decode("ascii") in contract.tokens
    owners = [
        v.strip(b" \t") for n, v in given_headers if n.lower() == contract.principal_header.lower().encode()
    ]
    assert [found.id.encode()] == owners
    assert 0 < len(found.id) <= 256
    assert found.id.isprintable()
    assert unicodedata.is_normalized("NFC", found.id)
    assert all(re.fullmatch(r"[!#-\[\]-~]{1,128}", scope) for scope in found.scopes)
    if found.tenant != DEFAULT_TENANT:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", found.tenant)
        assert found.tenant.encode() in stated
        assert contract.multi_tenant


@fuzz
@given(
    contract=st.sampled_from(CONTRACTS),
    given_headers=st.builds(lambda a, b: [*a, *b], sound, headers),
    data=st.data(),
)
def test_the_order_of_headers_never_chooses_the_caller(contract, given_headers, data) -> None:
    """Neither first nor last header wins: a shuffled request gives the same caller or the same refusal."""
    shuffled = data.draw(st.permutations(given_headers))
    one, other = identify(given_headers, contract), identify(shuffled, contract)
    if isinstance(one, Principal):
        assert one == other
    else:
        assert isinstance(other, IdentityRefused)
        assert one.authenticated == other.authenticated


tenants = st.one_of(
    st.text("abzAZ019_-", max_size=66).map(_encode),
    st.binary(max_size=70),
    ODD_TEXT.map(_encode),
    st.sampled_from([b"_default", b"-a", b"_a", b"a/b", b"a.b", b"A" * 64, b"A" * 65, b"team-a\n"]),
)


@fuzz
@given(tenant=tenants)
def test_a_tenant_id_is_taken_as_it_stands_or_refused(tenant) -> None:
    """Nothing is folded, truncated or cleaned: two ids never become one tenant."""
    contract = CONTRACTS[0]
    pairs = [
        (b"X-Strata-Proxy-Token", TOKEN.encode()),
        (b"X-Strata-Principal", b"ana"),
        (b"X-Tenant-ID", tenant),
    ]
    found = identify(pairs, contract)
    fit = re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", tenant.strip(b" \t"))
    if fit:
        assert Principal("ana", fit.group().decode(), frozenset()) == found
    else:
        assert isinstance(found, IdentityRefused)
        assert ("malformed_tenant", 400) == (found.code, found.status)


@fuzz
@given(principal=st.one_of(texts.map(_encode), st.binary(max_size=300), st.text(max_size=300).map(_encode)))
def test_a_principal_is_taken_as_it_stands_or_refused(principal) -> None:
    """Nothing is repaired or normalised, so no id can pass as another one."""
    pairs = [(b"X-Strata-Proxy-Token", TOKEN.encode()), (b"X-Strata-Principal", principal)]
    found = identify(pairs, CONTRACTS[1])
    if isinstance(found, Principal):
        assert found.id.encode() == principal.strip(b" \t")
    else:
        assert found.code in ("missing_principal", "malformed_principal")


@fuzz
@given(
    names=st.tuples(*[st.one_of(st.sampled_from([n.decode() for n in NAMES]), texts)] * 3),
    tokens=st.lists(st.one_of(st.just(TOKEN), texts), max_size=2).map(tuple),
)
def test_a_contract_is_whole_or_not_made(names, tokens) -> None:
    """A bad header name or token is a ValueError at start, never an error at a request."""
    try:
        contract = IdentityContract("trusted_proxy", tokens, *names)
    except ValueError as error:
        assert all(len(token) < 8 or token in names or token not in str(error) for token in tokens)
        return
    pairs = [(b"X-Strata-Proxy-Token", tokens[0].encode()), (names[0].encode(), b"ana")]
    assert Principal("ana", DEFAULT_TENANT, frozenset()) == identify(pairs, contract)


@fuzz
@given(
    given_headers=st.lists(
        st.tuples(st.sampled_from([b"X-Request-ID", b"x-request-id", b"X_Request_ID", b"A"]), values),
        max_size=3,
    )
)
def test_a_request_id_can_always_stand_in_a_header_and_a_log_line(given_headers) -> None:
    """The caller's id if it is safe and the only one, else a new one."""
    ids = [value.strip(b" \t") for name, value in given_headers if name.lower() == b"x-request-id"]
    found = request_id(given_headers, random.Random(1))
    assert re.fullmatch(r"[ -~]{1,128}", found)
    if len(ids) == 1 and re.fullmatch(rb"[ -~]{1,128}", ids[0]):
        assert ids[0].decode() == found
    else:
        assume(found.encode() not in ids)
        assert re.fullmatch(r"[0-9a-f]{32}", found)
