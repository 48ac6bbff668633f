"""E. Specs that are wrong, odd, or wrong for a while."""

from __future__ import annotations

from control_plane import Manifest, an_llm_deployment
from faults.oracles import assert_converged
from faults.stand import Scene, Stand
from scenarios.registry import scenario

BAD: dict[str, tuple[Manifest, str]] = {
    "unknown-model": ({"model": {"uri": "hf://acme/secret"}}, "ModelSizeUnknown"),
    "unknown-gpu": ({"gpus": {"product": "NVIDIA-X9000"}}, "GPUUnknown"),
    "too-small": (
        {"model": {"uri": "hf://meta-llama/Llama-3.3-70B-Instruct"}, "gpus": {"count": 1}},
        "InsufficientMemory",
    ),
    "heads": ({"gpus": {"count": 3}, "parallelism": {"tensor": 3}}, "HeadsNotDivisible"),
    "no-such-node": ({"gpus": {"product": "NVIDIA-H200"}}, "Unschedulable"),
    "image-pull": ({"podMetadata": {"annotations": {"sandbox.trtllm.dev/fault": "image-pull"}}}, "ImageNotFound"),
}


def _until_told(scene: Scene, bad: str) -> None:
    spec, reason = BAD[bad]
    scene.namespace.deploy(**spec)
    scene.namespace.until_reason(reason)


@scenario(
    53,
    "More GPUs than there are",
    injected="eight replicas of eight GPUs and one more, on 64 GPUs; then one",
    asserted="Unschedulable with the scheduler's words; the state of a fresh create afterwards",
)
def more_gpus_than_there_are(stand: Stand) -> None:
    with stand.scene("too-many") as scene:
        scene.namespace.deploy(gpus={"count": 8}, replicas=9)
        condition = scene.namespace.until_reason("Unschedulable")
        assert "Insufficient nvidia.com/gpu" in condition["message"]
        scene.namespace.deploy()
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


@scenario(
    54,
    "Valid, bad, valid again",
    injected="a served object is given a bad spec, then the good one again",
    asserted="its own reason while it is bad; the state of a fresh create afterwards",
    variants=tuple(BAD),
    gate=("too-small",),
)
def valid_bad_valid(stand: Stand, bad: str) -> None:
    with stand.scene(f"reversal-{bad}") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        _until_told(scene, bad)
        scene.namespace.deploy()
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


@scenario(
    55,
    "Bad from birth",
    injected="created with a bad spec, then mended",
    asserted="the state of a fresh create",
    variants=tuple(BAD),
)
def bad_from_birth(stand: Stand, bad: str) -> None:
    with stand.scene(f"birth-{bad}") as scene:
        _until_told(scene, bad)
        scene.namespace.deploy()
        scene.namespace.until_reason("Ready")
        assert_converged(scene)


@scenario(
    56,
    "A bad spec while pods serve",
    injected="a spec that cannot be planned, or pods that cannot start, on two served replicas",
    asserted="two replicas stay available",
    variants=("too-small", "image-pull"),
    gate=("too-small",),
)
def a_bad_spec_while_pods_serve(stand: Stand, bad: str) -> None:
    with stand.scene(f"serving-{bad}") as scene:
        scene.namespace.deploy(replicas=2)
        scene.namespace.ready()
        scene.namespace.until_reason("Ready")
        spec, reason = BAD[bad]
        scene.namespace.deploy(**spec, replicas=2)
        scene.namespace.until_reason(reason)
        scene.namespace.deploy(replicas=2)
        scene.namespace.until_reason("Ready")
        assert_converged(scene, available=2)


@scenario(
    59,
    "Optional fields left out or null",
    injected="the smallest spec; the same with null for every optional field, applied over it",
    asserted="no child is written",
)
def optional_fields_left_out(stand: Stand) -> None:
    with stand.scene("optional") as scene:
        scene.namespace.deploy()
        scene.namespace.ready()
        scene.quiet()
        before = len(scene.audit_writes())
        scene.namespace.deploy(gpus=None, parallelism=None, engine=None, replicas=None, scaling=None, dtype=None)
        scene.quiet()
        children = [e for e in scene.audit_writes()[before:] if e["objectRef"]["resource"] != "llmdeployments"]
        assert children == []
        assert_converged(scene)


@scenario(
    60,
    "Contradictions",
    injected="replicas with scaling, minimum over maximum, TP x PP that is not the number of GPUs",
    asserted="refused by the API server in words that name both fields",
    variants=("replicas", "minimum", "gpus"),
)
def contradictions(stand: Stand, which: str) -> None:
    specs: dict[str, tuple[Manifest, str]] = {
        "replicas": ({"replicas": 1, "scaling": {"maxReplicas": 2}}, "either replicas (1) or scaling"),
        "minimum": ({"scaling": {"minReplicas": 3, "maxReplicas": 2}}, "scaling.maxReplicas (2)"),
        "gpus": ({"parallelism": {"tensor": 4, "pipeline": 2}, "gpus": {"count": 4}}, "cannot be gpus.count (4)"),
    }
    spec, words = specs[which]
    with stand.scene(f"contradiction-{which}") as scene:
        answer = scene.namespace.kubectl("create", "--filename=-", stdin=an_llm_deployment(**spec), fails=True)
        assert words in answer
        assert scene.audit_writes() == []


@scenario(
    61,
    "Long and short names",
    injected="names of one and of forty characters",
    asserted="served; every name of a child fits",
    variants=("a", "a" + "b" * 39),
)
def long_and_short_names(stand: Stand, name: str) -> None:
    with stand.scene(f"name-{len(name)}") as scene:
        scene.namespace.deploy(name, scaling={"maxReplicas": 2})
        scene.namespace.ready(name)
        assert_converged(scene, name=name)
