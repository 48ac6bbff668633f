"""The specs that are mutated leave no field out. What the mutations lead to is in tests/component/test_mutations.py."""

from __future__ import annotations

from mutations import places, properties


def test_the_specs_set_every_property() -> None:
    assert set(places()) == properties()
