"""The phases of one run and their figures."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from bench.client import Client
from bench.objects import SECOND_TAG, an_object, children, names
from faults.operator_process import OperatorProcess, processor_time
from trtllm_operator.kinds import CONFIG_MAP, DEPLOYMENT, SERVICE

Manifest = dict[str, Any]
SINGLE_EDITS = 100
DELETED = 100
LONGEST = 600.0


@dataclass(slots=True)
class Figures:
    """What one run measured. Times in seconds, memory in bytes, processor time in seconds per object."""

    objects: int
    bare_creates: tuple[float, float] = (0.0, 0.0)
    """Before and after the operator: every object makes the next one dearer for the control plane."""
    bare_create_total_cpu: float = 0.0
    create_total_cpu: float = 0.0
    create: float = 0.0
    create_settled: float = 0.0
    create_cpu: float = 0.0
    create_writes: Counter[str] = field(default_factory=Counter)
    bare_edit: float = 0.0
    edit: float = 0.0
    edit_cpu: float = 0.0
    edit_writes: Counter[str] = field(default_factory=Counter)
    single_edits: Sequence[float] = ()
    recreated: Sequence[float] = ()
    restart: float = 0.0
    restart_writes: Counter[str] = field(default_factory=Counter)
    rest_writes: Counter[str] = field(default_factory=Counter)
    rss: int = 0

    @property
    def bare_create(self) -> float:
        """The mean of both runs of the bare client."""
        return statistics.fmean(self.bare_creates)


@dataclass(frozen=True, slots=True)
class Run:
    """One size on one control plane: two namespaces for the bare client, one for the operator."""

    client: Client
    bare_client: Client
    operator: OperatorProcess
    control_plane: tuple[int, ...]
    bare: str
    ours: str
    bare_after: str
    count: int
    profiled: bool = False

    async def play(self) -> Figures:
        """Play every phase in order."""
        figures = Figures(self.count)
        self.operator.start()
        before, before_cpu = await self._bare_create(self.bare)
        await self._create(figures)
        after, after_cpu = await self._bare_create(self.bare_after)
        figures.bare_creates = before, after
        figures.bare_create_total_cpu = statistics.fmean((before_cpu, after_cpu))
        edited = [_deployments(children(self.bare, name, SECOND_TAG)) for name in names(self.count)]
        figures.bare_edit = await self.bare_client.apply_all(edited)
        await self._edit(figures)
        figures.single_edits = await self._single_edits()
        figures.recreated = await self._deletions()
        figures.rest_writes = await self._rest(5.0)
        figures.rss = self.operator.rss
        if not self.profiled:  # a second process would write over what the first one's profile says
            await self._restart(figures)
        return figures

    async def _bare_create(self, namespace: str) -> tuple[float, float]:
        """Return the seconds it took, and those of everybody's processors."""
        manifests = [children(namespace, name) for name in names(self.count)]
        before = self._control_plane_cpu() + time.process_time()
        took = await self.bare_client.apply_all(manifests)
        return took, self._control_plane_cpu() + time.process_time() - before

    def _control_plane_cpu(self) -> float:
        return sum(map(processor_time, self.control_plane))

    async def _create(self, figures: Figures) -> None:
        """Create all objects while the operator is frozen, then let it go."""
        self.operator.send(signal.SIGSTOP)
        await self.client.create_all(an_object(self.ours, name) for name in names(self.count))
        before, cpu = await self.client.writes(), self.operator.cpu
        total = self._control_plane_cpu() + cpu
        async with AsyncExitStack() as watches:
            kinds = (CONFIG_MAP, SERVICE, DEPLOYMENT)
            arrivals = [await watches.enter_async_context(self.client.watching(kind, self.ours)) for kind in kinds]
            started = time.monotonic()
            self.operator.send(signal.SIGCONT)
            # One event for each child: nobody changes one while the controllers are stopped.
            figures.create = max([await each.number(self.count, LONGEST) for each in arrivals]) - started
            figures.create_total_cpu = self._control_plane_cpu() + self.operator.cpu - total
        figures.create_settled = await self._settled() - started
        figures.create_cpu = (self.operator.cpu - cpu) / self.count
        figures.create_writes = await self.client.writes() - before

    async def _edit(self, figures: Figures) -> None:
        self.operator.send(signal.SIGSTOP)
        await self.client.edit_all(self.ours, names(self.count), SECOND_TAG)
        before, cpu = await self.client.writes(), self.operator.cpu
        async with self.client.watching(DEPLOYMENT, self.ours) as arrivals:
            started = time.monotonic()
            self.operator.send(signal.SIGCONT)
            figures.edit = await arrivals.all(names(self.count), _has(SECOND_TAG), LONGEST) - started
        await self._settled()
        figures.edit_cpu = (self.operator.cpu - cpu) / self.count
        figures.edit_writes = await self.client.writes() - before

    async def _single_edits(self) -> Sequence[float]:
        """Edit one object after the other, as users do; the seconds until each Deployment has changed."""
        took = []
        async with self.client.watching(DEPLOYMENT, self.ours) as arrivals:
            for number in range(SINGLE_EDITS):
                name = names(self.count)[number * self.count // SINGLE_EDITS]
                tag = f"edit-{number}"
                started = time.monotonic()
                await self.client.edit(self.ours, name, tag)
                took.append(await arrivals.first(name, _has(tag)) - started)
        return took

    async def _deletions(self) -> Sequence[float]:
        """Delete a hundred Services at once; the seconds until each is there again."""
        async with self.client.watching(SERVICE, self.ours) as arrivals:
            started = time.monotonic()
            gone = names(min(DELETED, self.count))
            await asyncio.gather(*(self.client.delete(SERVICE, self.ours, name) for name in gone))
            return [await arrivals.first(name, lambda kind, _: kind == "ADDED") - started for name in gone]

    async def _rest(self, seconds: float) -> Counter[str]:
        await self._settled()
        before = await self.client.writes()
        await asyncio.sleep(seconds)
        return await self.client.writes() - before

    async def _restart(self, figures: Figures) -> None:
        self.operator.end()
        before = await self.client.writes()
        started = time.monotonic()
        await asyncio.to_thread(self.operator.start)
        cpu = self.operator.cpu
        while (newer := self.operator.cpu) > cpu:
            cpu = newer
            await asyncio.sleep(0.2)
        figures.restart = time.monotonic() - started
        figures.restart_writes = await self.client.writes() - before

    async def _settled(self) -> float:
        """Wait until a second has passed without a write; return when that second began."""
        last, at = await self.client.writes(), time.monotonic()
        while time.monotonic() - at < 1.0:
            await asyncio.sleep(0.1)
            now = await self.client.writes()
            if now != last:
                last, at = now, time.monotonic()
        return at


def _deployments(manifests: Sequence[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == "Deployment"]


def _has(tag: str) -> Callable[[str, Manifest], bool]:
    def wanted(_: str, manifest: Manifest) -> bool:
        image: str = manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        return image.endswith(f":{tag}")

    return wanted


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile by the nearest of 99 cut points."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
