"""Kubeconfig texts, with every certificate embedded so that the file can be copied anywhere."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def certificate_kubeconfig(server: str, pki: Path, user: str, context: str) -> str:
    """Return the kubeconfig of ``user``, whose certificate pair is ``<pki>/<user>.crt`` and ``.key``."""
    credentials = {
        "client-certificate-data": _encoded(pki / f"{user}.crt"),
        "client-key-data": _encoded(pki / f"{user}.key"),
    }
    return _kubeconfig(server, pki, credentials, user, context)


def token_kubeconfig(server: str, pki: Path, token: str, user: str, context: str) -> str:
    """Return the kubeconfig of ``user``, who authenticates with a bearer token."""
    return _kubeconfig(server, pki, {"token": token}, user, context)


def _kubeconfig(server: str, pki: Path, credentials: dict[str, str], user: str, context: str) -> str:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [
            {
                "name": context,
                "cluster": {"server": server, "certificate-authority-data": _encoded(pki / "ca.crt")},
            }
        ],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
    }
    return yaml.safe_dump(document, sort_keys=False)
