"""The key is one that OpenSSH completes, and the Secret is made once and never read."""

from __future__ import annotations

from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fakes import FakeCluster
from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Conflict, Forbidden
from trtllm_operator.kinds import SECRET
from trtllm_operator.rbac import rules
from trtllm_operator.render import Owner
from trtllm_operator.ssh_key import ensure_key, key_secret, private_key

OWNER = Owner(name="llama", namespace="team-a", uid="0123456789abcdef")


def test_a_key_is_on_the_curve_and_never_the_same() -> None:
    texts = {private_key() for _ in range(8)}
    assert len(texts) == 8
    for text in texts:
        key = load_pem_private_key(text.encode(), password=None)
        assert isinstance(key, EllipticCurvePrivateKey)
        assert isinstance(key.curve, SECP256R1)


def test_the_secret_is_of_one_object_and_cannot_change() -> None:
    secret = key_secret(OWNER, "k")
    assert secret["metadata"]["name"] == "llama-ssh-01234567"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == OWNER.uid
    assert secret["immutable"] is True
    assert secret["stringData"] == {"key": "k"}


async def test_a_secret_that_exists_is_left_as_it_is() -> None:
    cluster = FakeCluster()
    cluster.answers[("create", "Secret")] = Conflict("exists", status=409)
    await ensure_key(cast("Cluster", cluster), OWNER)
    assert cluster.said() == [("create", "Secret")]


async def test_a_right_that_is_missing_is_told() -> None:
    cluster = FakeCluster()
    cluster.answers[("create", "Secret")] = Forbidden("no", status=403)
    with pytest.raises(Forbidden):
        await ensure_key(cast("Cluster", cluster), OWNER)


def test_the_operator_may_create_secrets_and_nothing_else() -> None:
    (rule,) = (rule for rule in rules() if SECRET.plural in rule["resources"])
    assert rule["verbs"] == ["create"]
