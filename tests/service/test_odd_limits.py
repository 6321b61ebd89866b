"""Limits that the admin API takes are those that the server can read again."""

import pytest
from service_kit import Running, identity

PATH = "/v1/admin/tenants/team-a/limits"
OPERATOR = identity("root", "ops", "admin:*")


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 0.0009])
async def test_a_rate_next_to_zero_is_refused_before_it_is_stored(server: Running, rate: float) -> None:
    """Replicas that share the file, and this server at its next start, would refuse the whole file."""
    async with server.client(**OPERATOR) as client:
        refused = await client.patch(PATH, json={"rate_limit_scan_rps": rate})
        assert (422, "limit_not_allowed") == (refused.status_code, refused.json()["error"])
        assert 200 == (await client.patch(PATH, json={"rate_limit_scan_rps": 0.001})).status_code
        limits = (await client.get(PATH)).json()["limits"]
    assert 0.001 == limits["rate_limit_scan_rps"]["value"]


async def test_the_largest_number_of_json_can_be_stored_and_read_again(server: Running) -> None:
    """The description allows it, and the next change reads the file."""
    async with server.client(**OPERATOR) as client:
        for seconds in (2**53 - 1, 300):
            changed = await client.patch(PATH, json={"stream_state_ttl_seconds": seconds})
            assert 200 == changed.status_code, changed.text
