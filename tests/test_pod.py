"""What the spec makes of the serving pod, and what it is refused for."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import H100, LLAMA_70B, a_plan, a_spec
from trtllm_operator.api import Dtype, LLMDeploymentSpec
from trtllm_operator.engine_versions import default_tag
from trtllm_operator.planned import Infeasible, Plan
from trtllm_operator.refusals import Reason
from trtllm_operator.render import Manifest, Owner, render
from trtllm_operator.settings import Settings

OWNER = Owner(name="llama", namespace="team-a")
SMALL = {"shape": {"parameters": 8_030_261_248}}


def _rendered(spec: LLMDeploymentSpec, made: Plan | None = None, **settings: Any) -> dict[str, Manifest]:
    found = render(OWNER, spec, made or a_plan(spec), Settings(**settings))
    assert not isinstance(found, Infeasible), found
    return {manifest["kind"]: manifest for manifest in found}


def _refused(spec: LLMDeploymentSpec, made: Plan | None = None, **settings: Any) -> Infeasible:
    found = render(OWNER, spec, made or a_plan(spec), Settings(**settings))
    assert isinstance(found, Infeasible), found
    return found


def _pod(spec: LLMDeploymentSpec, **settings: Any) -> Manifest:
    pod: Manifest = _rendered(spec, **settings)["Deployment"]["spec"]["template"]["spec"]
    return pod


def _from(uri: str, **model: Any) -> LLMDeploymentSpec:
    return LLMDeploymentSpec.model_validate({"model": {"uri": uri, **model}, "gpus": {"count": 1}}, extra="forbid")


def _volume(pod: Manifest, name: str) -> Manifest:
    (found,) = (volume for volume in pod["volumes"] if volume["name"] == name)
    return {key: value for key, value in found.items() if key != "name"}


@pytest.mark.parametrize(
    ("spec", "served"),
    [
        pytest.param(_from("hf://Qwen/Qwen3-8B"), "llama", id="the object's name"),
        pytest.param(_from("hf://Qwen/Qwen3-8B", name="qwen"), "qwen", id="a name of its own"),
        pytest.param(_from("pvc://models/acme/8b", **SMALL), "llama", id="of a directory"),
    ],
)
def test_the_served_name(spec: LLMDeploymentSpec, served: str) -> None:
    args = _pod(spec)["containers"][0]["args"]
    assert args[args.index("--served_model_name") + 1] == served


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param(_from("hf://Qwen/Qwen3-8B"), "Qwen/Qwen3-8B", id="hub"),
        pytest.param(_from("pvc://models/acme/8b", **SMALL), "/models/acme/8b", id="volume"),
        pytest.param(_from("oci://registry.example.com/acme/8b:1", **SMALL), "/models", id="image"),
    ],
)
def test_what_is_served(spec: LLMDeploymentSpec, path: str) -> None:
    assert _pod(spec)["containers"][0]["args"][0] == path


def _sibling(spec: LLMDeploymentSpec) -> Plan:
    made = a_plan(spec)
    assert made.model.name != LLAMA_70B.removeprefix("hf://"), "the catalogue's sibling is what this test is about"
    return made


def test_a_variant_is_served_from_its_own_repository() -> None:
    spec = LLMDeploymentSpec.model_validate({"model": {"uri": LLAMA_70B, "variant": "Auto"}, "dtype": "fp8"})
    made = _sibling(spec)
    assert made.model.checkpoint_dtype == Dtype.FP8
    args = _rendered(spec, made)["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[0] == made.model.name


def test_a_revision_is_not_another_repository_s() -> None:
    model = {"uri": LLAMA_70B, "variant": "Auto", "revision": "abc"}
    spec = LLMDeploymentSpec.model_validate({"model": model, "dtype": "fp8"})
    refusal = _refused(spec, _sibling(spec))
    assert refusal.reason == Reason.INVALID_ENGINE_VALUE
    assert "spec.model.revision" in refusal.message


@pytest.mark.parametrize(
    ("fields", "reason", "told"),
    [
        pytest.param(
            {"engine": {"config": {"tensor_parallel_size": 2}}},
            Reason.MANAGED_OPTION,
            "spec.parallelism.tensor",
            id="managed key",
        ),
        pytest.param({"engine": {"args": ["--log_levl", "x"]}}, Reason.UNKNOWN_FLAG, "--log_level?", id="unknown flag"),
        pytest.param(
            {"engine": {"config": {"kv_cache_config": 1}}}, Reason.INVALID_ENGINE_VALUE, "must be a map", id="no map"
        ),
        pytest.param(
            {"model": {"uri": LLAMA_70B, "name": "llama"}, "engine": {"image": {"tag": "1.2.1"}}},
            Reason.UNSUPPORTED_BY_RELEASE,
            "--served_model_name",
            id="a name the release cannot serve",
        ),
        pytest.param(
            {"modelCache": {"hostPath": "/mnt/models"}},
            Reason.HOST_PATH_NOT_ALLOWED,
            "spec.modelCache.hostPath is /mnt/models",
            id="a directory of the node",
        ),
        pytest.param(
            {
                "podMetadata": {
                    "annotations": {"container.apparmor.security.beta.kubernetes.io/trtllm-serve": "unconfined"}
                }
            },
            Reason.POD_SECURITY_VIOLATION,
            "AppArmor: annotation",
            id="an annotation that loosens the pod",
        ),
    ],
)
def test_refused_with_its_reason(fields: dict[str, Any], reason: Reason, told: str) -> None:
    spec = LLMDeploymentSpec.model_validate({"model": {"uri": LLAMA_70B}, **fields}, extra="forbid")
    refusal = _refused(spec)
    assert refusal.reason == reason
    assert told in refusal.message


def test_a_directory_of_the_node_where_the_administrator_allows_it() -> None:
    spec = a_spec(modelCache={"hostPath": "/mnt/models"})
    assert _volume(_pod(spec, allow_host_path=True), "cache") == {
        "hostPath": {"path": "/mnt/models", "type": "Directory"}
    }
    restricted = a_spec(modelCache={"hostPath": "/mnt/models"}, securityProfile="Restricted")
    assert _refused(restricted, allow_host_path=True).reason == Reason.POD_SECURITY_VIOLATION


@pytest.mark.parametrize(
    ("cache", "volume"),
    [
        pytest.param(None, {"emptyDir": {}}, id="none"),
        pytest.param({"emptyDir": {"sizeLimit": "40Gi"}}, {"emptyDir": {"sizeLimit": "40Gi"}}, id="emptyDir"),
        pytest.param({"emptyDir": {}}, {"emptyDir": {"sizeLimit": "142Gi"}}, id="emptyDir as large as the weights"),
        pytest.param(
            {"pvc": {"size": "200Gi"}}, {"persistentVolumeClaim": {"claimName": "llama-models"}}, id="claim to create"
        ),
        pytest.param(
            {"pvc": {"create": False, "name": "shared"}},
            {"persistentVolumeClaim": {"claimName": "shared"}},
            id="existing claim",
        ),
    ],
)
def test_where_weights_are_kept(cache: Any, volume: Manifest) -> None:
    rendered = _rendered(a_spec(**({} if cache is None else {"modelCache": cache})))
    assert _volume(rendered["Deployment"]["spec"]["template"]["spec"], "cache") == volume
    assert ("PersistentVolumeClaim" in rendered) == bool(cache and cache.get("pvc", {}).get("size"))


def test_a_checkpoint_on_a_volume_is_only_read() -> None:
    pod = _pod(_from("pvc://models/acme/8b", **SMALL))
    assert _volume(pod, "model") == {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}}
    (mount,) = (mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "model")
    assert mount["readOnly"] is True
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in pod["containers"][0]["env"]


def test_a_user_s_variable_wins_but_not_over_a_managed_one() -> None:
    stated = [{"name": "TRTLLM_NO_USAGE_STATS", "value": "0"}, {"name": "HF_HOME", "value": "/elsewhere"}]
    env = _pod(a_spec(engine={"env": stated}))["containers"][0]["env"]
    names = [variable["name"] for variable in env]
    assert sorted(names) == sorted(set(names))
    values = {variable["name"]: variable["value"] for variable in env}
    assert (values["TRTLLM_NO_USAGE_STATS"], values["HF_HOME"]) == ("0", "/cache/huggingface")


def test_without_a_proxy_address_hosts_are_no_exceptions() -> None:
    env = _pod(a_spec(proxy={"caConfigMap": "authorities"}))["containers"][0]["env"]
    assert {variable["name"] for variable in env} >= {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
    assert not [variable for variable in env if "proxy" in variable["name"].lower()]


def test_further_authorities_are_joined_to_the_public_ones(tmp_path: Path) -> None:
    (first,) = _pod(a_spec(proxy={"caConfigMap": "authorities"}))["initContainers"]
    python, flag, script, joined, further = first["command"]
    (tmp_path / "certifi.py").write_text(f"def where(): return {str(tmp_path / 'public.crt')!r}")
    (tmp_path / "public.crt").write_text("public")
    (tmp_path / Path(further).name).write_text("further")
    paths = [str(tmp_path / Path(path).name) for path in (joined, further)]
    assert python == "python3"
    subprocess.run([sys.executable, flag, script, *paths], check=True, cwd=tmp_path)
    assert Path(paths[0]).read_text() == "public\nfurther"


def test_a_plan_s_gpus_win_over_a_resource_of_the_same_name() -> None:
    spec = a_spec(resources={"limits": {"nvidia.com/gpu": "1"}}, gpus={"count": 4})
    assert _pod(spec)["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 4}


def test_the_plan_s_product_wins_over_a_node_label_of_the_user() -> None:
    assert _pod(a_spec(nodeSelector={"nvidia.com/gpu.product": "other", "a": "b"}))["nodeSelector"] == {
        "nvidia.com/gpu.product": H100,
        "a": "b",
    }


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        pytest.param({}, {"replicas": 3}, True, id="another field"),
        pytest.param({}, {"engine": {"maxBatchSize": 8}}, False, id="an option of the engine"),
    ],
)
def test_the_configuration_s_name_tells_its_content(before: Any, after: Any, same: bool) -> None:
    names = [_rendered(a_spec(**fields))["ConfigMap"]["metadata"]["name"] for fields in (before, after)]
    assert (names[0] == names[1]) == same
    mounted = _volume(_pod(a_spec(**after)), "engine-config")
    assert mounted == {"configMap": {"name": names[1]}}


@pytest.mark.parametrize(
    ("fields", "account"),
    [pytest.param({}, "default", id="left-out"), pytest.param({"serviceAccountName": "llm"}, "llm", id="stated")],
)
def test_the_account_is_always_named(fields: Any, account: str) -> None:
    assert _pod(a_spec(**fields))["serviceAccountName"] == account


def test_the_default_tag_is_the_table_s() -> None:
    assert Settings().image_tag == default_tag()
    assert replace(Settings(), image_tag="x").image_tag == "x"
