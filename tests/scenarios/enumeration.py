"""Kill the operator at each write of an edit, one run per write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from control_plane import Manifest, wait_until
from faults.oracles import assert_converged
from faults.rules import Kill, Moment, writes
from faults.stand import Scene, Stand

AT_ONCE = 3
"""Runs side by side: each mostly waits for pods and for an operator to start."""


def kill_at_each_write(
    stand: Stand,
    moment: Moment,
    *,
    first: Manifest | None = None,
    then: Manifest,
    at_once: int = AT_ONCE,
    **expected: Any,
) -> None:
    """Edit from one spec to another (or create), once for each write a fault-free run needs, and kill at that write.

    Statuses and events may come together in one run and apart in another, so the last ones of a run may not be there
    to be killed at; every write of a child and the first of the status must be.
    """
    names = _writes_of_a_free_run(stand, first, then)
    certain = sum(name not in ("events", "llmdeployments/status") for name in names) + 1

    def run(position: int) -> bool:
        with stand.scene(f"kill-{moment.name}-{position}".lower()) as scene:
            return _one_run(scene, moment, position, first, then, expected)

    with ThreadPoolExecutor(at_once) as pool:
        killed = list(pool.map(run, range(len(names))))
    assert killed[:certain] == [True] * certain, f"killed at {killed}, of {names}"


def _one_run(
    scene: Scene, moment: Moment, position: int, first: Manifest | None, then: Manifest, expected: dict[str, Any]
) -> bool:
    _prepare(scene, first)
    killing = scene.arm(writes(), Kill(moment), skip=position)
    scene.namespace.deploy(**then)
    wait_until(lambda: killing.fired or _is_done(scene))
    killed = bool(killing.fired)
    scene.disarm(killing)
    if killed:
        scene.operator.wait()
        scene.start()
    try:
        # Every run but one restarted its operator already.
        assert_converged(scene, **expected, restart=position == 0, quiet=1.0)
    except AssertionError as error:
        raise AssertionError(f"killed {moment.value}, at write {position + 1}: {error}") from error
    return killed


def _writes_of_a_free_run(stand: Stand, first: Manifest | None, then: Manifest) -> list[str]:
    with stand.scene("free") as scene:
        _prepare(scene, first)
        before = len(scene.proxy.exchanges)
        scene.namespace.deploy(**then)
        wait_until(lambda: _is_done(scene))
        scene.quiet()
        return [exchange.request.resource for exchange in scene.proxy.exchanges[before:] if exchange.request.is_write]


def _prepare(scene: Scene, first: Manifest | None) -> None:
    if first is not None:
        scene.namespace.deploy(**first)
        wait_until(lambda: _is_done(scene))
        scene.quiet(0.7)


def _is_done(scene: Scene) -> bool:
    stored = scene.namespace.get("llmd", "llama")
    current = stored["status"].get("observedGeneration") == stored["metadata"]["generation"]
    return bool(current and scene.namespace.condition().get("status") == "True")
