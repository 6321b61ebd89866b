"""A Ray cluster on the loopback is joined there if its head listens nowhere else."""

from __future__ import annotations

import socket

import pytest

from strata.executor.cluster import ray_address
from strata.executor.cluster.ray_address import LOOPBACK_ONLY, environment_for


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_head_on_the_loopback_alone_is_joined_there(host: str) -> None:
    """Nothing answers on the machine's other address, or it has none."""
    with socket.create_server(("127.0.0.1", 0)) as head:
        assert LOOPBACK_ONLY == environment_for(f"{host}:{head.getsockname()[1]}")


def test_a_head_on_the_machines_own_address_is_joined_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray does by itself."""
    monkeypatch.setattr(ray_address, "_own_address", lambda: "127.0.0.2")
    with socket.create_server(("0.0.0.0", 0)) as head:  # as Ray's head on a machine with a network
        assert {} == environment_for(f"127.0.0.1:{head.getsockname()[1]}")


@pytest.mark.parametrize("address", ["auto", "192.0.2.7:6379", "ray.example:6379", "ray://127.0.0.1:x", ""])
def test_other_addresses_are_left_to_ray(address: str) -> None:
    """They need nothing."""
    assert {} == environment_for(address)
