"""A Sigstore of one's own for tests: certificate authority, logs of certificates and signatures, trust root.

Signs as GitHub's workflows do with the public one; verifiers are given its trust root and are otherwise real.
"""

import base64
import datetime as dt
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stigmer_release.registry import canonical_json

ISSUER: Final = "https://token.actions.githubusercontent.com"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_IN_TOTO: Final = "application/vnd.in-toto+json"
_SCT_LIST: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_FULCIO: Final = "1.3.6.1.4.1.57264.1"
_LOG_NAME: Final = "rekor.local"
_LIFETIME: Final = dt.timedelta(minutes=10)


@dataclass(frozen=True)
class Workflow:
    """Who signs, as the identity token of a GitHub workflow says."""

    identity: str
    repository: str
    """URL."""
    commit: str


class LocalSigstore:
    """Keys live in a directory, so that another process can sign with them too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.trust_root = directory / "trusted_root.json"
        directory.mkdir(parents=True, exist_ok=True)
        if not self.trust_root.exists():
            for name in ("authority", "certificate-log", "signature-log"):
                pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                (directory / f"{name}.pem").write_bytes(pem)
            (directory / "authority.der").write_bytes(_self_signed(self._key("authority")))
            self.trust_root.write_text(json.dumps(self._trust_root()), encoding="utf-8")

    def sign(self, statement: dict[str, Any], workflow: Workflow) -> bytes:
        """A bundle (version 0.3) of the statement in a DSSE envelope."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key, workflow)
        payload = canonical_json(statement)
        head = f"DSSEv1 {len(_IN_TOTO)} {_IN_TOTO} {len(payload)} ".encode()
        signature = key.sign(head + payload, ec.ECDSA(hashes.SHA256()))
        envelope = {
            "payload": _base64(payload),
            "payloadType": _IN_TOTO,
            "signatures": [{"sig": _base64(signature)}],
        }
        bundle = {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {
                "certificate": {"rawBytes": _base64(certificate.public_bytes(serialization.Encoding.DER))},
                "tlogEntries": [self._log_entry(envelope, payload, certificate)],
            },
            "dsseEnvelope": envelope,
        }
        return canonical_json(bundle)

    def _key(self, name: str) -> ec.EllipticCurvePrivateKey:
        pem = (self._directory / f"{name}.pem").read_bytes()
        return cast("ec.EllipticCurvePrivateKey", serialization.load_pem_private_key(pem, None))

    def _certificate(self, key: ec.EllipticCurvePrivateKey, workflow: Workflow) -> x509.Certificate:
        """With the log's promise inside (RFC 6962, section 3.2), which is over the certificate without it."""
        authority = self._key("authority")
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(_authority_name())
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=5))
            .not_valid_after(now + _LIFETIME)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(workflow.identity)]),
                critical=True,
            )
        )
        for number, text in ((8, ISSUER), (12, workflow.repository), (13, workflow.commit)):
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{_FULCIO}.{number}"), _utf8(text))
            builder = builder.add_extension(extension, critical=False)
        without = builder.sign(authority, hashes.SHA256())
        promise = x509.UnrecognizedExtension(_SCT_LIST, self._promise(without, authority))
        return builder.add_extension(promise, critical=False).sign(authority, hashes.SHA256())

    def _promise(self, certificate: x509.Certificate, authority: ec.EllipticCurvePrivateKey) -> bytes:
        log = self._key("certificate-log")
        milliseconds = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        content = certificate.tbs_certificate_bytes
        entry = hashlib.sha256(_der(authority)).digest() + len(content).to_bytes(3, "big") + content
        signed = struct.pack("!BBQH", 0, 0, milliseconds, 1) + entry + struct.pack("!H", 0)
        signature = log.sign(signed, ec.ECDSA(hashes.SHA256()))
        promise = struct.pack(
            "!B32sQHBBH", 0, hashlib.sha256(_der(log)).digest(), milliseconds, 0, 4, 3, len(signature)
        )
        one = struct.pack("!H", len(promise + signature)) + promise + signature
        listed = struct.pack("!H", len(one)) + one
        return b"\x04" + _der_length(len(listed)) + listed

    def _log_entry(
        self, envelope: dict[str, Any], payload: bytes, certificate: x509.Certificate
    ) -> dict[str, Any]:
        """A log of one entry: it is its own root."""
        log = self._key("signature-log")
        log_id = hashlib.sha256(_der(log)).digest()
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        body = canonical_json(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": _hash(canonical_json(envelope)),
                    "payloadHash": _hash(payload),
                    "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": _base64(pem)}],
                },
            }
        )
        time = int(dt.datetime.now(dt.UTC).timestamp())
        promised = {"body": _base64(body), "integratedTime": time, "logID": log_id.hex(), "logIndex": 0}
        promise = log.sign(canonical_json(promised), ec.ECDSA(hashes.SHA256()))
        root = hashlib.sha256(b"\x00" + body).digest()
        note = f"{_LOG_NAME} - 1\n1\n{_base64(root)}\n"
        note_signature = _base64(log_id[:4] + log.sign(note.encode(), ec.ECDSA(hashes.SHA256())))
        return {
            "logIndex": "0",
            "logId": {"keyId": _base64(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": _base64(promise)},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _base64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n\u2014 {_LOG_NAME} {note_signature}\n"},
            },
            "canonicalizedBody": _base64(body),
        }

    def _trust_root(self) -> dict[str, Any]:
        valid = {"start": "2020-01-01T00:00:00Z"}

        def log(name: str) -> dict[str, Any]:
            der = _der(self._key(name))
            return {
                "baseUrl": f"https://{name}.local",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": _base64(der),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": valid,
                },
                "logId": {"keyId": _base64(hashlib.sha256(der).digest())},
            }

        certificate = _base64((self._directory / "authority.der").read_bytes())
        authority = {
            "subject": {"organization": "tests", "commonName": "authority"},
            "uri": "https://authority.local",
            "certChain": {"certificates": [{"rawBytes": certificate}]},
            "validFor": valid,
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log("signature-log")],
            "certificateAuthorities": [authority],
            "ctlogs": [log("certificate-log")],
            "timestampAuthorities": [],
        }


def statement(digest: str, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """An in-toto statement on an image."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "image", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def _self_signed(key: ec.EllipticCurvePrivateKey) -> bytes:
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_authority_name())
        .issuer_name(_authority_name())
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_usage(digital_signature=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def _authority_name() -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "tests"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"),
        ]
    )


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not digital_signature,
        crl_sign=not digital_signature,
        encipher_only=False,
        decipher_only=False,
    )


def _der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _utf8(text: str) -> bytes:
    content = text.encode()
    return b"\x0c" + _der_length(len(content)) + content


def _der_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    content = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(content)]) + content


def _hash(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
