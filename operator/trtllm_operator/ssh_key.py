"""The key pair by which the pods of an LLMDeployment know one another.

It is made once and never read back: the operator may create Secrets and nothing else with them.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from textwrap import wrap

from trtllm_operator.cluster import Cluster
from trtllm_operator.errors import Conflict
from trtllm_operator.kinds import SECRET
from trtllm_operator.naming import common_labels, key_secret_name
from trtllm_operator.render import Manifest, Owner, owner_references
from trtllm_operator.replica import KEY_FILE

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256 (NIST SP 800-186, section 3.2.1.3); a private key is a number from 1 to one less."""

_DER = bytes.fromhex("30310201010420"), bytes.fromhex("a00a06082a8648ce3d030107")
"""What stands around the number in an ECPrivateKey of P-256 without its public key (RFC 5915, section 3)."""


async def ensure_key(cluster: Cluster, owner: Owner) -> None:
    """Create the Secret unless it exists. Raises ClusterError for any other refusal."""
    try:
        await cluster.create(SECRET, key_secret(owner, private_key()))
    except Conflict:
        return


def key_secret(owner: Owner, key: str) -> Manifest:
    """Return the Secret; immutable, so that pods started at different times hold the same key."""
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {
            "name": key_secret_name(owner.name, owner.uid),
            "namespace": owner.namespace,
            "labels": common_labels(owner.name),
            "ownerReferences": owner_references(owner),
        },
        "immutable": True,
        "stringData": {KEY_FILE: key},
    }


def private_key() -> str:
    """Return a new private key on P-256 as PEM, which every OpenSSH reads and completes by its public key."""
    number = secrets.randbelow(_ORDER - 1) + 1
    before, after = _DER
    body = b64encode(before + number.to_bytes(32, "big") + after).decode()
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *wrap(body, 64), "-----END EC PRIVATE KEY-----", ""])
