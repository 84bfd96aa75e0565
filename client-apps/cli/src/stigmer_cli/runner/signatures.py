"""What Sigstore says of documents that are attached to an image: who signed them, and what they state.

The only module that imports `sigstore`, which takes half a second: import it where an image is verified.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from cryptography.hazmat import asn1
from cryptography.x509 import (
    Certificate,
    ExtensionNotFound,
    ObjectIdentifier,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    UnrecognizedExtension,
)
from sigstore.errors import Error as SigstoreError
from sigstore.errors import TUFError, VerificationError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import AllOf, OIDCIssuerV2

ISSUER: Final = "https://token.actions.githubusercontent.com"
_IN_TOTO: Final = "application/vnd.in-toto+json"
_STATEMENTS: Final = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
# github.com/sigstore/fulcio, docs/oid-info.md.
_COMMIT: Final = ObjectIdentifier("1.3.6.1.4.1.57264.1.13")
_REPOSITORY: Final = ObjectIdentifier("1.3.6.1.4.1.57264.1.12")


@dataclass(frozen=True)
class Statement:
    """A signed in-toto statement about the image, whose signature holds."""

    predicate_type: str
    predicate: dict[str, Any]
    signer: str
    """The workflow, as its certificate names it."""
    repository: str
    """URL of the source, as the certificate names it."""
    commit: str
    """SHA-1 of the source, as the certificate names it."""


class CannotTell(Exception):
    """The trust root cannot be had or read."""


def verified_statements(
    bundles: Iterable[bytes], digest: str, signer: str, trust_root: Path | None
) -> tuple[list[Statement], list[str]]:
    """The statements on the digest that `signer` signed, and why each other document does not count.

    `signer` is a workflow's identity; `*` at its end stands for anything.

    Raises:
        CannotTell: there is nothing to check signatures by.
    """
    verifier = _verifier(trust_root)
    policy = AllOf([OIDCIssuerV2(ISSUER), _SignedBy(signer)])
    found: list[Statement] = []
    refused: list[str] = []
    for content in bundles:
        try:
            bundle = Bundle.from_json(content)
            kind, payload = verifier.verify_dsse(bundle, policy)
            found.append(_statement(kind, payload, digest, bundle.signing_certificate))
        except (SigstoreError, ValueError, KeyError, TypeError) as error:
            refused.append(str(error))
    return found, refused


class _SignedBy:
    """A policy of `sigstore`: the certificate is that of the expected workflow."""

    def __init__(self, expected: str) -> None:
        self._expected = expected

    def verify(self, cert: Certificate) -> None:
        """Raises VerificationError where it is another's."""
        signer = _identity(cert)
        is_expected = (
            signer.startswith(self._expected[:-1])
            if self._expected.endswith("*")
            else signer == self._expected
        )
        if not is_expected:
            raise VerificationError(f"it is signed by {signer!r}, and not by {self._expected!r}")


def _verifier(trust_root: Path | None) -> Verifier:
    try:
        if trust_root is not None:
            return Verifier(trusted_root=TrustedRoot.from_file(str(trust_root)))
        try:
            return Verifier.production()
        except TUFError:  # offline, or behind a proxy: by the root that came last, or with the package
            return Verifier.production(offline=True)
    except (SigstoreError, OSError, ValueError) as error:
        raise CannotTell(str(error)) from error


def _statement(kind: str, payload: bytes, digest: str, certificate: Certificate) -> Statement:
    document = cast("dict[str, Any]", json.loads(payload))
    if kind != _IN_TOTO or document["_type"] not in _STATEMENTS:
        raise ValueError(f"it is no in-toto statement but {kind!r}")
    subjects = cast("list[dict[str, Any]]", document["subject"])
    if digest.removeprefix("sha256:") not in {subject["digest"].get("sha256") for subject in subjects}:
        raise ValueError("it speaks of another image")
    return Statement(
        predicate_type=str(document["predicateType"]),
        predicate=cast("dict[str, Any]", document.get("predicate") or {}),
        signer=_identity(certificate),
        repository=_extension(certificate, _REPOSITORY),
        commit=_extension(certificate, _COMMIT),
    )


def _identity(certificate: Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        [identity] = names.get_values_for_type(UniformResourceIdentifier)
    except (ExtensionNotFound, ValueError) as error:
        raise VerificationError("its certificate names no workflow") from error
    return identity


def _extension(certificate: Certificate, name: ObjectIdentifier) -> str:
    try:
        value = certificate.extensions.get_extension_for_oid(name).value
    except ExtensionNotFound as error:
        raise VerificationError("its certificate names no source") from error
    if not isinstance(value, UnrecognizedExtension):
        raise VerificationError("its certificate names no source")
    return asn1.decode_der(str, value.value)
