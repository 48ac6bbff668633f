"""A real Kubernetes control plane on this computer, with simulated GPU nodes.

etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK, all on 127.0.0.1. It proves logic,
admission, scheduling, quota and status; it proves nothing about the performance of a GPU.
"""

from trtllm_operator.sandbox.addons import ADDONS
from trtllm_operator.sandbox.errors import SandboxError
from trtllm_operator.sandbox.handle import DEFAULT_NODES, ComponentStatus, Sandbox

__all__ = ["ADDONS", "DEFAULT_NODES", "ComponentStatus", "Sandbox", "SandboxError"]
