"""A build that fails while the metadata store is away is noted as failed when the store is back."""

from __future__ import annotations

import pytest
from service_kit import Running, Warehouse, numbers, scan

from strata.artifacts import STORE_DOWN, ArtifactState, SqlMetadataStore
from strata.outcomes import RefusalError
from strata.tenants.retention.sweeper import Sweeper


async def test_the_end_of_a_build_is_told_when_the_store_is_back(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it would count as building: other servers would wait for it."""
    warehouse.create(numbers(10))

    def down(*_: object, **__: object) -> None:
        raise RefusalError(STORE_DOWN)

    resources = server.service.registry.resources
    with monkeypatch.context() as patched:
        patched.setattr(SqlMetadataStore, "finish_build", down)
        patched.setattr(SqlMetadataStore, "fail_build", down)
        async with server.client() as client:
            answer = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
            await client.get(answer["stream_url"])
            [actor] = [tenant.actor for tenant in server.service.registry.tenants()]
            assert actor.materializer is not None
            for build in list(actor.materializer.running.values()):
                await build.done.wait()
        sweeper = Sweeper(resources, lambda _tenant: actor.limits, lambda: 0.0)
        with pytest.raises(RefusalError):
            await sweeper.end_builds()
    [(tenant, build_id, _)] = resources.unended.noted()
    assert ("team-a", answer["build_id"]) == (tenant, build_id)
    assert ArtifactState.BUILDING is resources.metadata.get_build(tenant, build_id).state
    await sweeper.end_builds()
    found = resources.metadata.get_build(tenant, build_id)
    assert (ArtifactState.FAILED, "metadata_store_down") == (found.state, found.error_code)
    assert () == resources.unended.noted()
