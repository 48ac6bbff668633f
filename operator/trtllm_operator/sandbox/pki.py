"""The certificates of one sandbox: one CA, elliptic-curve keys, everything for this machine only."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trtllm_operator.sandbox.paths import write_private

_VALID = dt.timedelta(days=365)
_SKEW = dt.timedelta(hours=1)
_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_SERVER_ADDRESSES = ("127.0.0.1", "::1", "10.96.0.1")

# File stem -> (common name, organisation): the user and the group Kubernetes reads out of a client certificate.
_CLIENTS = {
    "admin": ("sandbox-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kwok": ("kwok", "system:masters"),
    "etcd-client": ("kube-apiserver-etcd-client", ""),
}


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate authority of one sandbox."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def write_pki(directory: Path) -> None:
    """Write the CA, the serving certificate, every client certificate and the service-account key pair."""
    directory.mkdir(mode=0o700)
    authority = _authority()
    _write_pair(directory, "ca", authority.certificate, authority.key)
    _write_pair(directory, "server", *_issue(authority, "127.0.0.1", "", server=True))
    for stem, (user, group) in _CLIENTS.items():
        _write_pair(directory, stem, *_issue(authority, user, group, server=False))
    accounts = ec.generate_private_key(ec.SECP256R1())
    write_private(directory / "service-accounts.key", _key_pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(directory / "service-accounts.pub", public)


def renew_server(directory: Path) -> None:
    """Write another serving certificate of the same CA in the place of the one there is."""
    certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{directory}/ca.key is not an elliptic-curve key")
    _write_pair(directory, "server", *_issue(Authority(certificate, key), "127.0.0.1", "", server=True))


def _authority() -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("trtllm-operator sandbox", "")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def _issue(
    authority: Authority, common_name: str, organisation: str, *, server: bool
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    # etcd dials itself with its serving certificate, so a server is a client too.
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
    builder = (
        _builder(_subject(common_name, organisation), authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if server:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in _SERVER_NAMES]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _SERVER_ADDRESSES]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority.key, hashes.SHA256()), key


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _subject(common_name: str, organisation: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_pair(directory: Path, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    write_private(directory / f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM))
    write_private(directory / f"{stem}.key", _key_pem(key))
