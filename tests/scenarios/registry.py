"""Which scenarios there are: those that are played, as functions, and those that wait for something, as data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from faults.stand import Stand
from scenarios import PLAYS

Play = Callable[..., None]

COUNT = 112
GROUPS = (
    ("A", "Crashes and intermediate states", 1),
    ("B", "Stale, unobserved and broken watches", 11),
    ("C", "API errors and slowness", 24),
    ("D", "Concurrency, ownership, adversaries", 37),
    ("E", "Invalid and hostile specs", 50),
    ("F", "Deletion, namespaces, the CRD", 63),
    ("G", "Upgrade, several operators, time", 74),
    ("H", "GitOps and kubectl", 88),
    ("I", "Autoscalers", 97),
    ("J", "Pods and nodes", 103),
    ("K", "Scale and soak", 108),
)
"""Letter, title, number of the first scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario; ``play`` is called with each of the ``variants``, of which ``gate`` names some."""

    number: int
    title: str
    injected: str
    asserted: str
    play: Play
    variants: Sequence[str] = ()
    gate: Sequence[str] = ()

    def run(self, stand: Stand, variant: str) -> None:
        """Play one variant."""
        self.play(stand, variant) if variant else self.play(stand)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A scenario that is not played, and why."""

    number: int
    title: str
    reason: str


SCENARIOS: list[Scenario] = []


def scenario(
    number: int,
    title: str,
    *,
    injected: str,
    asserted: str,
    variants: Sequence[str] = (),
    gate: bool | Sequence[str] = False,
) -> Callable[[Play], Play]:
    """Register the function below as the play of a scenario. ``gate``: what of it belongs to the default test run."""
    every = tuple(variants) or ("",)

    def register(play: Play) -> Play:
        SCENARIOS.append(
            Scenario(
                number=number,
                title=title,
                injected=injected,
                asserted=asserted,
                play=play,
                variants=tuple(variants),
                gate=(every if gate else ()) if isinstance(gate, bool) else tuple(gate),
            )
        )
        return play

    return register


def load() -> None:
    """Import every module of plays, so that each registers what it plays."""
    for name in PLAYS:
        importlib.import_module(f"scenarios.{name}")


def waiting() -> tuple[Waiting, ...]:
    """Return the scenarios that wait, from the data file beside this module."""
    text = Path(__file__).with_name("waiting.yaml").read_text(encoding="utf-8")
    return tuple(Waiting(**entry) for entry in yaml.safe_load(text))


def group_of(number: int) -> str:
    """Return the letter of the group a scenario belongs to."""
    return next(letter for letter, _, first in reversed(GROUPS) if number >= first)


def plays() -> Iterator[tuple[Scenario, str]]:
    """Yield every variant of every scenario, by number; the variant is empty where there is one only."""
    for one in sorted(SCENARIOS, key=lambda one: one.number):
        for variant in one.variants or ("",):
            yield one, variant
