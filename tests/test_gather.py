from __future__ import annotations

from builders import H100, a_spec
from trtllm_operator.facts import ModelFacts
from trtllm_operator.gather import gather, offers_of
from trtllm_operator.hardware import NodeGroup

OFFERS = offers_of([NodeGroup(nodes=2, gpus=8, product=H100)])


def test_facts_hold_the_model_the_pools_and_what_is_unknown() -> None:
    facts = gather(a_spec(), OFFERS)
    assert isinstance(facts.model, ModelFacts)
    assert [(pool.gpu.product, pool.total) for pool in facts.pools] == [(H100, 16)]
    assert facts.unknown_gpus == ()


def test_what_nothing_tells_is_unknown() -> None:
    facts = gather(a_spec(gpus={"product": "H100"}), OFFERS)
    assert facts.pools == ()
    assert facts.unknown_gpus[0].near[0] == H100
