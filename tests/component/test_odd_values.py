"""Every property, changed in every odd way: rejected in words that name the field, or harmless."""

from __future__ import annotations

from typing import Any

import pytest

from control_plane import Cluster, an_llm_deployment
from judge import Fate, desk_disagrees, judge
from mutations import Manifest, Place, distinct_places, mutations, text

pytestmark = pytest.mark.component

PLACES = [pytest.param(*place, id=path) for path, place in distinct_places().items()]


@pytest.mark.parametrize(("spec", "place", "schema"), PLACES)
def test_a_changed_property_is_rejected_readably_or_harmless(
    cluster: Cluster, spec: Manifest, place: Place, schema: Any
) -> None:
    assert judge(cluster, an_llm_deployment(**spec)).fate != Fate.REJECTED
    for mutation in mutations(place, schema):
        manifest = an_llm_deployment(**mutation.of(spec))
        judgement = judge(cluster, manifest)
        assert not desk_disagrees(manifest, judgement), mutation
        if judgement.fate == Fate.REJECTED:
            _assert_readable(judgement.message, place)


def _assert_readable(message: str, place: Place) -> None:
    groups = [text(place[: end + 1]) for end in range(len(place))]
    assert any(group in message for group in groups), f"none of {groups} in {message}"
    assert "failed rule" not in message, "a rule that does not say what is wrong"
