"""The pods of a replica that spans several nodes: one that leads and serves, and workers that lend it their GPUs.

The leader runs ``mpirun`` over ssh, one rank of ``trtllm-llmapi-launch`` per GPU; rank 0 serves. The scripts are
``data/launch``; they take the command as arguments and everything else from the environment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trtllm_operator import engine
from trtllm_operator.api import LLMDeploymentSpec, SecurityProfile
from trtllm_operator.engine_versions import launcher_environment
from trtllm_operator.naming import COMPONENT_LABEL, WORKER
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.pod import PROBE_SECONDS, PodContext
from trtllm_operator.pod_environment import Variable
from trtllm_operator.pod_placement import node_selector
from trtllm_operator.pod_storage import Volume
from trtllm_operator.refusals import Reason

SSH_PORT = 2222
"""Above 1023, so that sshd needs no right to bind it."""

JOIN_SECONDS = 1800
"""How long the leader waits for the workers: a pod starts once its image of some 20 GB is pulled."""

KEY_DIRECTORY = "/etc/trtllm-ssh"
KEY_FILE = "key"
RUN_DIRECTORY = "/run/trtllm"

_SSHD_CAPABILITIES = ("SETGID", "SETUID", "SYS_CHROOT")
"""What sshd as root needs to give up the rights it does not need; Baseline admits them, Restricted none."""


def worker_refusal(plan: Plan) -> Infeasible | None:
    """Refuse pods that cannot be told apart as LeaderWorkerSet does: the first, and the others alike."""
    products = plan.pod_products
    if len(set(products[1:])) <= 1:
        return None
    return Infeasible(
        reason=Reason.HETEROGENEOUS_WORKERS,
        message=f"{plan.layout} is {plan.nodes} pods of {plan.gpus_per_pod} on {', '.join(products)}; LeaderWorkerSet "
        "gives the first pod one template and all others another: order spec.gpus.pools so that only its first pod is "
        "on a GPU of its own",
        model=plan.model,
    )


def replica_pods(
    alone: PodContext, plan: Plan, spec: LLMDeploymentSpec, key_secret: str
) -> tuple[PodContext, PodContext]:
    """Return the leader and a worker made from the pod that would serve alone."""
    _, product_of_workers, *_ = plan.pod_products
    shared = replace(
        alone,
        environment=_environment(alone.environment, plan),
        volumes=(*alone.volumes, *_volumes(key_secret)),
    )
    leader = replace(
        shared,
        command=("/bin/bash", f"{engine.CONFIG_DIRECTORY}/leader.sh"),
        args=("trtllm-llmapi-launch", *alone.command, *alone.args),
        startup_failures=alone.startup_failures + JOIN_SECONDS // PROBE_SECONDS,
    )
    worker = replace(
        shared,
        ssh_port=SSH_PORT,
        labels={**alone.labels, COMPONENT_LABEL: WORKER},
        node_selector=node_selector(spec, plan, product_of_workers),
        command=("/bin/bash", f"{engine.CONFIG_DIRECTORY}/worker.sh"),
        args=(),
        added_capabilities=() if spec.security_profile is SecurityProfile.RESTRICTED else _SSHD_CAPABILITIES,
    )
    return leader, worker


def _environment(stated: Iterable[Variable], plan: Plan) -> tuple[Variable, ...]:
    """Return each variable once: a stated one wins over the launcher's, and the scripts' own win over it."""
    ours = {
        "REPLICA_GPUS_PER_POD": str(plan.gpus_per_pod),
        "REPLICA_JOIN_SECONDS": str(JOIN_SECONDS),
        "REPLICA_KEY_FILE": f"{KEY_DIRECTORY}/{KEY_FILE}",
        "REPLICA_RUN_DIRECTORY": RUN_DIRECTORY,
        "REPLICA_SSH_PORT": str(SSH_PORT),
    }
    launcher = {name: Variable(name=name, value=value) for name, value in launcher_environment()}
    scripts = {name: Variable(name=name, value=value) for name, value in ours.items()}
    return tuple((launcher | {variable.name: variable for variable in stated} | scripts).values())


def _volumes(key_secret: str) -> tuple[Volume, ...]:
    return (
        Volume(
            name="ssh-key",
            kind="secret",
            source={"secretName": key_secret, "defaultMode": 0o440},
            mount_path=KEY_DIRECTORY,
            read_only=True,
        ),
        Volume(name="run", kind="emptyDir", source={"medium": "Memory"}, mount_path=RUN_DIRECTORY),
    )
