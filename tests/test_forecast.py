from __future__ import annotations

from typing import Any

import pytest

from builders import H100
from fakes import FakeMemory, FakeSurvey
from trtllm_operator.forecast import Forecaster
from trtllm_operator.hardware import GPU_RESOURCE, PRODUCT_LABEL
from trtllm_operator.workqueue import Key

Manifest = dict[str, Any]


def _group(size: int) -> Manifest:
    """Return a LeaderWorkerSet of one group, with one GPU for each pod."""
    containers = [{"resources": {"limits": {GPU_RESOURCE: 1}}}]
    template = {
        "size": size,
        "workerTemplate": {"spec": {"containers": containers, "nodeSelector": {PRODUCT_LABEL: H100}}},
    }
    metadata = {"name": "llama", "namespace": "default", "annotations": {"trtllm.dev/digest": f"{size}"}}
    return {"kind": "LeaderWorkerSet", "metadata": metadata, "spec": {"replicas": 1, "leaderWorkerTemplate": template}}


@pytest.mark.parametrize(
    ("size", "wanted", "free", "surge"),
    [
        pytest.param(2, 2, 2, 1, id="as-large-as-before"),
        pytest.param(4, 2, 2, 1, id="smaller"),
        pytest.param(2, 4, 6, 1, id="larger-twice"),
        pytest.param(2, 4, 5, None, id="larger-once-only"),
    ],
)
async def test_a_group_that_grows_needs_room_beside_the_further_one(
    size: int, wanted: int, free: int, surge: int | None
) -> None:
    forecaster = Forecaster(memory=FakeMemory(), survey=FakeSurvey(free=free))
    rollout = await forecaster.rollout(
        Key("default", "llama"), None, None, _group(size), 1, lambda _: (_group(wanted),)
    )
    assert rollout.max_surge == surge
