"""K. Many objects side by side."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from control_plane import Manifest, Namespace, children, wait_until
from faults.oracles import assert_converged, assert_gone
from faults.stand import Stand
from scenarios.registry import scenario


@scenario(
    112,
    "Good and bad objects side by side",
    injected="30 objects, every second of which cannot be planned or is refused by a quota of GPUs that is used up",
    asserted="the good ones are ready within 30 s",
)
def good_and_bad_side_by_side(stand: Stand) -> None:
    with stand.scene("mixed") as scene:
        for number in range(15):
            scene.namespace.deploy(f"bad-{number}", model={"uri": "hf://acme/secret"})
            scene.namespace.deploy(f"good-{number}")
        for number in range(15):
            scene.namespace.kubectl("wait", "--for=condition=Ready", f"llmd/good-{number}", "--timeout=30s")
        for number in range(15):
            assert scene.namespace.condition(name=f"bad-{number}")["reason"] == "ModelSizeUnknown"


LIVES = {"10": 10, "100": 100}
MADE_AGAIN = 0.1
EDITED = 2
"""The generation of an object that was edited once."""

AT_ONCE = 10
"""Lifecycles that are under way at a time; each is a series of kubectl commands, which cost more than the operator."""


@scenario(
    110,
    "Many lifecycles in parallel",
    injected="10 or 100 objects, ten at a time: created, edited when there is a Deployment, deleted when that is told",
    asserted="each Deployment follows the edit and goes, nothing is left; one in ten at most is made once more, which "
    "is known: its owner was deleted between two steps of a pass, and the garbage collector takes it",
    variants=tuple(LIVES),
)
def many_lifecycles(stand: Stand, count: str) -> None:
    names = [f"llama-{number}" for number in range(LIVES[count])]
    with stand.scene(f"lives-{count}") as scene:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: _live(scene.namespace, name), names))
        assert_gone(scene)
        written = [entry for entry in scene.audit_writes() if entry["objectRef"]["resource"] == "deployments"]
        made = Counter(e["objectRef"]["name"] for e in written if e["responseStatus"]["code"] == HTTPStatus.CREATED)
        assert made.keys() == set(names)
        assert made.total() <= len(names) * (1 + MADE_AGAIN)
        assert len(written) == len(names) + made.total()


def _live(namespace: Namespace, name: str) -> None:
    def tag() -> str | None:
        found = namespace.find("deployment", name)
        if found is None:
            return None
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2])

    namespace.deploy(name)
    wait_until(lambda: tag() is not None)
    namespace.deploy(name, engine={"image": {"tag": "1.3.0rc25"}})
    wait_until(lambda: tag() == "1.3.0rc25")
    wait_until(lambda: namespace.get("llmd", name).get("status", {}).get("observedGeneration") == EDITED)
    namespace.kubectl("delete", "llmd", name)
    wait_until(lambda: tag() is None)


SOAK_SECONDS = 180
TAGS = ("1.3.0rc24", "1.3.0rc25")


@scenario(
    111,
    "A killer in the background",
    injected="three minutes in place of a day: ten objects edited one after the other, as fast as kubectl can, and by "
    "chance, after an edit, the operator killed or its watches cut",
    asserted="each child is made once, the last spec of every object is in force",
)
def a_killer_in_the_background(stand: Stand) -> None:
    chance = random.Random(111)
    names = [f"llama-{number}" for number in range(10)]
    wanted: dict[str, Manifest] = {}
    with stand.scene("killer") as scene:
        until = time.monotonic() + SOAK_SECONDS
        for name in itertools.cycle(names):
            tag = {"engine": {"image": {"tag": chance.choice(TAGS)}}}
            wanted[name] = {"replicas": chance.choice((1, 2)), **tag}
            scene.namespace.deploy(name, **wanted[name])
            chance.choices([scene.restart, scene.cut, lambda: None], [1, 2, 7])[0]()
            if time.monotonic() > until:
                break
        for name in names:
            ready = f"{wanted[name]['replicas']}/{wanted[name]['replicas']}"
            wait_until(lambda name=name, ready=ready: _is_served(scene.namespace, name, ready, wanted[name]), 60)
        assert_converged(scene, name=names[0], recreated=dict.fromkeys(children(*names), 1))


def _is_served(namespace: Namespace, name: str, ready: str, spec: Manifest) -> bool:
    workload = namespace.get("deployment", name)
    image = workload["spec"]["template"]["spec"]["containers"][0]["image"]
    told = namespace.get("llmd", name)["status"].get("ready")
    return bool(told == ready and image.endswith(f":{spec['engine']['image']['tag']}"))
