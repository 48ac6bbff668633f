"""A namespace of the real control plane in few words, and waiting with a deadline."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from kubernetes.config import new_client_from_config

from trtllm_operator.api import LLMDeploymentSpec
from trtllm_operator.gather import gather, offers_of
from trtllm_operator.hardware import NodeGroup
from trtllm_operator.kinds import AUTOSCALER, EVENT, KINDS, LLM_DEPLOYMENT, POD, SECRET, Kind
from trtllm_operator.plan import plan
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.render import Owner, render
from trtllm_operator.sandbox import Sandbox
from trtllm_operator.sandbox.handle import DEFAULT_NODES
from trtllm_operator.settings import Settings

Manifest = dict[str, Any]

FIELD_MANAGER = "tests"

_KINDS = {
    **{kind.kind.lower(): kind for kind in (*KINDS, EVENT, SECRET, POD, LLM_DEPLOYMENT)},
    **{kind.plural: kind for kind in (*KINDS, EVENT, SECRET, POD, LLM_DEPLOYMENT)},
    "hpa": AUTOSCALER,
    "llmd": LLM_DEPLOYMENT,
}


# Server-side apply as the operator does it, with unknown and duplicate fields refused, and nothing stored.
_STRICT_DRY_RUN = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-")


class Kubectl:
    """kubectl against one sandbox, as the administrator or with another kubeconfig."""

    def __init__(self, sandbox: Sandbox, kubeconfig: Path) -> None:
        self._command = [str(sandbox.binary("kubectl")), f"--kubeconfig={kubeconfig}"]

    def __call__(self, *arguments: str, stdin: Any = None, code: int = 0) -> str:
        answer = subprocess.run(
            [*self._command, *arguments],
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert answer.returncode == code, answer.stdout + answer.stderr
        return answer.stdout if code == 0 else answer.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", *arguments, "--output=json"))
        return found

    def apply(self, *manifests: dict[str, Any]) -> None:
        self("apply", "--server-side", "--filename=-", stdin=_list_of(manifests))


class Cluster:
    """kubectl as a user has it, and the sandbox below."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._kubectl = Kubectl(sandbox, sandbox.kubeconfig)
        self._api = new_client_from_config(str(sandbox.kubeconfig))

    def kubectl(self, *arguments: str, stdin: Any = None, fails: bool = False) -> str:
        return self._kubectl(*arguments, stdin=stdin, code=1 if fails else 0)

    def read(self, kind: Kind, namespace: str, name: str | None = None, **query: str) -> Manifest | None:
        """Return an object or a list, or None when there is none; kubectl for each poll would be slow."""
        path = kind.path(namespace, name) + (f"?{urlencode(query)}" if query else "")
        answer = self._api.call_api("GET", self._api.configuration.host + path, {"Accept": "application/json"})
        body: Manifest = json.loads(answer.read())
        if answer.status == 404:
            return None
        assert answer.status == 200, body
        return body

    def dry_run(self, manifest: Manifest, namespace: str = "default") -> tuple[int, Manifest]:
        """Apply strictly without storing; return the HTTP status and what would be stored, or the error."""
        kind = _KINDS[manifest["kind"].lower()]
        query = urlencode(
            {"dryRun": "All", "fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true"}
        )
        answer = self._api.call_api(
            "PATCH",
            f"{self._api.configuration.host}{kind.path(namespace, manifest['metadata']['name'])}?{query}",
            {"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"},
            as_yaml(manifest),
        )
        body: Manifest = json.loads(answer.read())
        return answer.status, body

    def refusal(self, manifest: Manifest, namespace: str = "default") -> str | None:
        """Return why the API server refuses to apply this object, or None when it takes it; nothing is stored."""
        status, body = self.dry_run(manifest, namespace)
        return None if status in {200, 201} else str(body["message"])

    def replace_spec(self, namespace: str, manifest: Manifest) -> None:
        """Replace the spec of an LLMDeployment by merge patch, faster than kubectl does."""
        self._patch(LLM_DEPLOYMENT.path(namespace, manifest["metadata"]["name"]), {"spec": manifest["spec"]})

    def patch_status(self, kind: Kind, namespace: str, name: str, status: Manifest) -> None:
        """Merge into a status, as the kubelet or a controller would."""
        self._patch(f"{kind.path(namespace, name)}/status", {"status": status})

    def _patch(self, path: str, patch: Manifest) -> None:
        headers = {"Accept": "application/json", "Content-Type": "application/merge-patch+json"}
        answer = self._api.call_api("PATCH", self._api.configuration.host + path, headers, body=patch)
        assert answer.status == 200, answer.read()

    def apply(self, *manifests: Manifest) -> None:
        self._kubectl.apply(*manifests)

    def delete(self, *manifests: Manifest) -> None:
        """Delete objects and wait until they are gone."""
        self.kubectl("delete", "--ignore-not-found", "--timeout=80s", "--filename=-", stdin=_list_of(manifests))

    def audit(self) -> list[Manifest]:
        """Every request so far, as the API server logged it."""
        return [json.loads(line) for line in self.sandbox.audit_log.read_text(encoding="utf-8").splitlines()]


class Namespace:
    """One namespace for one test."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: Any = None, fails: bool = False) -> str:
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin, fails=fails)

    def get(self, kind: str, name: str) -> Manifest:
        found = self.find(kind, name)
        assert found is not None, f"no {kind} {name}"
        return found

    def find(self, kind: str, name: str) -> Manifest | None:
        return self.cluster.read(_KINDS[kind.lower()], self.name, name)

    def list(self, *kinds: str, selector: str = "") -> list[Manifest]:
        """Return every object of these kinds that matches; each with its kind, which lists leave out."""
        return [
            {**item, "kind": _KINDS[kind].kind}
            for kind in kinds
            for item in (self.cluster.read(_KINDS[kind], self.name, labelSelector=selector) or {})["items"]
        ]

    def apply(self, *manifests: Manifest) -> None:
        self.kubectl("apply", "--filename=-", stdin=_list_of(manifests))

    def assert_accepted(self, *manifests: Manifest) -> None:
        """Fail unless the API server would store each manifest: known fields only, valid, admitted."""
        self.kubectl(*_STRICT_DRY_RUN, stdin=_list_of(manifests))

    def refusal(self, manifest: Manifest) -> str:
        """Return why the API server would not store this manifest; fail when it would."""
        return self.kubectl(*_STRICT_DRY_RUN, stdin=manifest, fails=True)

    def offer_volume(self, claim: str, size: str = "200Gi", storage_class: str = "") -> None:
        """Make a volume for a claim, which goes with the namespace: the sandbox has nothing that makes any."""
        uid = json.loads(self.cluster.kubectl("get", "namespace", self.name, "--output=json"))["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "Namespace", "name": self.name, "uid": uid}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{self.name}-{claim}", "ownerReferences": [owner]},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "storageClassName": storage_class,
                "claimRef": {"namespace": self.name, "name": claim},
                "hostPath": {"path": "/nowhere"},
            },
        }
        self.cluster.kubectl("apply", "--filename=-", stdin=volume)

    def deploy(self, name: str = "llama", **spec: Any) -> Manifest:
        """Apply an LLMDeployment; by default the smallest that plans."""
        manifest = an_llm_deployment(name, **spec)
        self.apply(manifest)
        return manifest

    def patch_status(self, kind: Kind, name: str, status: Manifest) -> None:
        """Merge into a status, as the kubelet or a controller would."""
        self.cluster.patch_status(kind, self.name, name, status)

    def strand(self, pod: Manifest, reason: str, message: str) -> None:
        """Report of a pod what a kubelet does of one that it cannot start: an Event, and then containers that wait."""
        metadata, status = pod["metadata"], pod["status"]
        event = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"generateName": f"{metadata['name']}."},
            "involvedObject": {
                "kind": POD.kind,
                "namespace": self.name,
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "lastTimestamp": status["startTime"],
        }
        self.kubectl("create", "--filename=-", stdin=event)
        not_yet = [{**condition, "status": "False"} for condition in status["conditions"]]
        placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        conditions = [placed, *(condition for condition in not_yet if condition["type"] != "PodScheduled")]
        waiting = {"state": {"waiting": {"reason": "ContainerCreating"}}, "ready": False, "started": False}
        containers = {
            key: [{**container, **waiting} for container in status[key]]
            for key in ("initContainerStatuses", "containerStatuses")
            if key in status
        }
        self.patch_status(POD, metadata["name"], {"conditions": conditions, **containers})

    def ready(self, name: str = "llama") -> None:
        self.kubectl("wait", "--for=condition=Ready", f"llmd/{name}", "--timeout=60s")

    def condition(self, kind: str = "Ready", name: str = "llama") -> Manifest:
        conditions = self.get("llmd", name)["status"]["conditions"]
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def until_reason(self, reason: str, kind: str = "Ready", name: str = "llama") -> Manifest:
        """Wait until a condition has this reason for the newest generation; return it."""

        def found() -> Manifest | None:
            stored = self.get("llmd", name)
            for condition in stored["status"]["conditions"]:
                current = condition.get("observedGeneration") == stored["metadata"]["generation"]
                if condition["type"] == kind and current and condition["reason"] == reason:
                    return dict(condition)
            return None

        return wait_until(found, what=lambda: f"{kind} is {self.condition(kind, name)}, not {reason}")

    def told(self, reason: str) -> list[str]:
        """Return the messages of the events of this reason, whatever they are about."""
        return [event["message"] for event in self.list("events") if event["reason"] == reason]


def _list_of(manifests: Iterable[Manifest]) -> Manifest:
    return {"apiVersion": "v1", "kind": "List", "items": list(manifests)}


def as_yaml(manifest: Manifest) -> str:
    """Return JSON that is YAML too, which has neither surrogate pairs nor every character JSON has."""
    text = json.dumps(manifest, ensure_ascii=False)
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", text)


def children(*names: str) -> list[tuple[str, str]]:
    """Return kind and name of what is made for LLMDeployments of ``an_llm_deployment`` as it is."""
    return [
        child
        for name in names
        for child in (("ConfigMap", config_map_name(name)), ("Service", name), ("Deployment", name))
    ]


def config_map_name(name: str = "llama", **spec: Any) -> str:
    """Return the name of the ConfigMap that the operator makes for ``an_llm_deployment`` on the sandbox's nodes."""
    parsed = LLMDeploymentSpec.model_validate(an_llm_deployment(name, **spec)["spec"])
    made = plan(parsed, gather(parsed, offers_of(NodeGroup.parse(nodes) for nodes in DEFAULT_NODES)))
    assert isinstance(made, Plan), made
    rendered = render(Owner(name=name, namespace="default"), parsed, made, Settings())
    assert not isinstance(rendered, Infeasible), rendered
    return next(manifest["metadata"]["name"] for manifest in rendered if manifest["kind"] == "ConfigMap")


def an_llm_deployment(name: str = "llama", **spec: Any) -> Manifest:
    return {
        "apiVersion": "trtllm.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct"}, **spec},
    }


@contextmanager
def fresh_namespace(kubectl: Callable[..., str], name: str) -> Iterator[None]:
    """Create a namespace, wait until pods can be created in it, and delete it in the background afterwards."""
    kubectl("create", "namespace", name)
    wait_until(lambda: "default" in kubectl("get", "serviceaccounts", f"--namespace={name}"))
    yield
    kubectl("delete", "namespace", name, "--wait=false")


def wait_until(condition: Callable[[], Any], seconds: float = 30, *, what: Callable[[], str] = lambda: "") -> Any:
    """Poll until the condition holds; fail with ``what`` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.1)
    return result
