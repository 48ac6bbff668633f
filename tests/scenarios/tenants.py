"""K. Many objects side by side."""

from __future__ import annotations

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
