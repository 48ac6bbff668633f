"""Generated objects, all the way: the API server, the plan, the children, the status. Nothing may break on one.

A fixed selection by default; `--fuzz COUNT` (`make fuzz`) tries that many new ones.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from control_plane import Cluster, Manifest
from generated import objects
from judge import Fate, desk_disagrees, judge
from support import TOLD

pytestmark = pytest.mark.component

BY_DEFAULT = 400


def test_generated_objects(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    asked: int | None = request.config.getoption("--fuzz")
    fates: Counter[Fate] = Counter()

    @settings(
        max_examples=asked or BY_DEFAULT,
        derandomize=asked is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(objects())
    def check(manifest: Manifest) -> None:
        judgement = judge(cluster, manifest)
        assert not desk_disagrees(manifest, judgement)
        fates[judgement.fate] += 1

    check()
    told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
    request.config.stash.setdefault(TOLD, []).append(f"generated objects: {told}")
    assert set(fates) == set(Fate), "a run in which one outcome never came up has shown little"
