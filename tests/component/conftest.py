"""A namespace for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from control_plane import Cluster, Namespace, wait_until
from trtllm_operator.sandbox import Sandbox


@pytest.fixture(scope="session")
def cluster(sandbox: Sandbox) -> Cluster:
    return Cluster(sandbox)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    short = "".join(c if c.isalnum() else "-" for c in request.node.name.removeprefix("test_").lower())
    name = f"{short[:50].strip('-')}-{os.urandom(2).hex()}"
    cluster.kubectl("create", "namespace", name)
    found = Namespace(cluster, name)
    wait_until(lambda: "default" in found.kubectl("get", "serviceaccounts"))
    yield found
    cluster.kubectl("delete", "namespace", name, "--wait=false")
