"""The operator on the real control plane, under the rights it has in a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from control_plane import Cluster, Namespace, wait_until
from trtllm_operator.sandbox import Sandbox


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    os.environ["KUBECACHEDIR"] = str(tmp_path_factory.mktemp("kubectl"))
    with Sandbox.start(operator=True, audit=True) as sandbox:
        yield Cluster(sandbox)
        log = sandbox.log("operator").read_text(encoding="utf-8")
    assert "Traceback" not in log, log


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    short = "".join(c if c.isalnum() else "-" for c in request.node.name.removeprefix("test_").lower())
    name = f"{short[:50].strip('-')}-{os.urandom(2).hex()}"
    cluster.kubectl("create", "namespace", name)
    found = Namespace(cluster, name)
    wait_until(lambda: "default" in found.kubectl("get", "serviceaccounts"))
    yield found
    cluster.kubectl("delete", "namespace", name, "--wait=false")
