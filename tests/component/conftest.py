"""A namespace for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from control_plane import Cluster, Namespace, fresh_namespace
from trtllm_operator.sandbox import Sandbox


@pytest.fixture(scope="session")
def cluster(sandbox: Sandbox) -> Cluster:
    return Cluster(sandbox)


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    short = "".join(c if c.isalnum() else "-" for c in request.node.name.removeprefix("test_").lower())
    name = f"{short[:50].strip('-')}-{os.urandom(2).hex()}"
    with fresh_namespace(cluster.kubectl, name):
        yield Namespace(cluster, name)
