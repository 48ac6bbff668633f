"""The API server holds every rule of the CRD, and says the values and the field that break it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cel_files import Case, RuleFile, cases
from control_plane import FIELD_MANAGER, Cluster, an_llm_deployment

pytestmark = pytest.mark.component


@contextmanager
def _stored(cluster: Cluster, case: Case) -> Iterator[None]:
    if case.stored is None:
        yield
        return
    manifest = an_llm_deployment(case.name, **case.stored)
    cluster.kubectl("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "--filename=-", stdin=manifest)
    try:
        yield
    finally:
        cluster.kubectl("delete", "llmd", case.name)


def _refusal(cluster: Cluster, case: Case) -> str | None:
    with _stored(cluster, case):
        return cluster.refusal(an_llm_deployment(case.name, **case.spec))


@pytest.mark.parametrize(("file", "case"), cases("accepted"))
def test_accepted(cluster: Cluster, file: RuleFile, case: Case) -> None:
    assert _refusal(cluster, case) is None, file.message


@pytest.mark.parametrize(("file", "case"), cases("rejected"))
def test_rejected(cluster: Cluster, file: RuleFile, case: Case) -> None:
    refusal = _refusal(cluster, case)
    assert refusal is not None
    assert f" {case.field}: Invalid value: " in refusal
    assert case.says in refusal
    assert file.speaks_in(refusal), refusal
