"""Two operators and one lease: who writes, and when, by the audit log of the API server."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from control_plane import Cluster, Namespace, wait_until
from own_operator import OwnOperator, account, binding
from trtllm_operator.kinds import LEASE
from trtllm_operator.rbac import LEADER_ROLE, NAME, leader_role

pytestmark = pytest.mark.component

NAMES = ("one", "two")
WRITES = ("create", "update", "patch", "delete")


@pytest.fixture
def operators(cluster: Cluster, namespace: Namespace, tmp_path: Path) -> Iterator[tuple[OwnOperator, OwnOperator]]:
    """Two candidates; the sandbox's own operator, which would work too, is stopped meanwhile."""
    namespace.apply(
        leader_role(namespace.name),
        *(account(name) for name in NAMES),
        *(binding("Role", LEADER_ROLE, namespace.name, name) for name in NAMES),
    )
    with ExitStack() as stack:
        cluster.sandbox.stop_component("operator")
        stack.callback(cluster.sandbox.start_component, "operator")
        pair = []
        for name in NAMES:
            everywhere = f"{namespace.name}-{name}"
            subject = f"--serviceaccount={namespace.name}:{name}"
            cluster.kubectl("create", "clusterrolebinding", everywhere, f"--clusterrole={NAME}", subject)
            stack.callback(cluster.kubectl, "delete", "clusterrolebinding", everywhere)
            election = ("--leader-elect", f"--pod-name={name}", f"--pod-namespace={namespace.name}")
            pair.append(
                OwnOperator(namespace, name, tmp_path, f"--namespace={namespace.name}", *election, "--log-format=json")
            )
            stack.callback(pair[-1].end)
        yield pair[0], pair[1]


def _holder(namespace: Namespace) -> str:
    lease = namespace.cluster.read(LEASE, namespace.name, "trtllm-operator")
    return str(lease["spec"]["holderIdentity"]).partition("_")[0] if lease else ""


def _terms(namespace: Namespace, *operators: OwnOperator) -> list[str]:
    """Return who wrote, in the order in which the API server received it, once for each uninterrupted series."""
    names = {operator.user: operator.name for operator in operators}
    wrote = [
        (entry["requestReceivedTimestamp"], names[entry["user"]["username"]])
        for entry in namespace.cluster.audit()
        if entry["user"]["username"] in names
        and entry["verb"] in WRITES
        and entry["objectRef"]["resource"] != LEASE.plural
    ]
    return [name for name, _ in itertools.groupby(name for _, name in sorted(wrote))]


def test_the_leader_changes_without_a_write_out_of_turn(
    namespace: Namespace, operators: tuple[OwnOperator, OwnOperator]
) -> None:
    one, two = operators
    one.start()
    wait_until(lambda: _holder(namespace) == "one")
    two.start()
    namespace.deploy("first")
    namespace.ready("first")

    one.send(signal.SIGKILL)
    namespace.deploy("second")
    namespace.ready("second")
    assert _holder(namespace) == "two"

    one.end()
    one.start()
    two.send(signal.SIGSTOP)
    namespace.deploy("third")
    namespace.ready("third")
    assert _holder(namespace) == "one"
    namespace.deploy("first", replicas=2)
    two.send(signal.SIGCONT)
    assert two.exit_code() == 1
    assert "exiting" in two.log
    namespace.ready("first")

    two.start()
    one.send(signal.SIGTERM)
    assert one.exit_code() == 0
    namespace.deploy("fourth")
    namespace.ready("fourth")
    assert _holder(namespace) == "two"

    assert _terms(namespace, one, two) == ["one", "two", "one", "two"]
    for operator in operators:
        assert "Traceback" not in operator.log


def test_a_graceful_stop_frees_the_lease(namespace: Namespace, operators: tuple[OwnOperator, OwnOperator]) -> None:
    one, _ = operators
    one.start()
    wait_until(lambda: _holder(namespace) == "one")
    namespace.deploy()
    namespace.ready()
    one.send(signal.SIGTERM)
    assert one.exit_code() == 0
    assert _holder(namespace) == ""
