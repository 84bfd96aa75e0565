"""Decides whether an image may be pulled: signed by whom it must be, and built from what it must be.

What is verified is a digest, and that digest is pulled then. How signatures are checked is `signatures`'.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, cast

from stigmer_cli.config import Configuration
from stigmer_cli.containers import ImageReference
from stigmer_cli.containers.credentials import Credentials
from stigmer_cli.containers.registry import attached_documents
from stigmer_cli.errors import ImageUntrusted
from stigmer_cli.runner.released_image import RELEASE_DIGEST, REPOSITORY
from stigmer_cli.runner.signature_copies import copied_documents, copy_documents

if TYPE_CHECKING:
    from stigmer_cli.runner.signatures import Statement

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
WORKFLOW: Final = "https://github.com/stigmer/stigmer/.github/workflows/build-agent-runner-image.yml"


@dataclass(frozen=True)
class Verification:
    """What was found out about an image."""

    reference: ImageReference
    """With the digest to pull, where one was verified."""
    said: str
    """For the person: what was verified, or why nothing was."""


def verify_image(
    reference: ImageReference, configuration: Configuration, credentials: Credentials | None
) -> Verification:
    """Verifies an image before it is pulled, as `runner.verify` says.

    Raises:
        ImageUntrusted: it must be signed and is not, is signed by somebody else, or that cannot be told.
        ImageError: its registry does not tell; the subclass says why.
    """
    mode = configuration.runner_verify
    signer = expected_signer(reference, configuration.runner_signer)
    if mode == "off":
        return Verification(reference, f"{reference} is not verified: `runner.verify` is off")
    if signer is None:
        if mode == "require":
            raise _unsigned(reference)
        return Verification(
            reference, f"{reference} is not verified: it is not Stigmer's own, and `runner.signer` is not set"
        )
    if not can_verify() and mode == "auto" and RELEASE_DIGEST and reference.digest == RELEASE_DIGEST:
        return Verification(
            reference, f"{reference} is taken by its digest, which came with this stigmer; {_NO_VERIFIER}"
        )
    digest, bundles = attached_documents(reference, BUNDLE_TYPE, credentials, configuration.ca_bundle)
    if not can_verify():
        raise _untrusted(reference, _NO_VERIFIER, _INSTALL)
    if not bundles:
        raise _untrusted(reference, f"no signature is attached to {digest}", _OTHERWISE)
    return _judge(replace(reference, digest=digest), digest, signer, bundles, configuration)


def verify_present(
    reference: ImageReference,
    digests: Sequence[str],
    configuration: Configuration,
    credentials: Credentials | None,
) -> Verification:
    """Verifies an image that is here, as `require` demands.

    One of the `digests`, under which its registry has it, must hold. The registry is not asked where that was
    verified before.

    Raises:
        ImageUntrusted, ImageError: as `verify_image`.
    """
    signer = expected_signer(reference, configuration.runner_signer)
    if signer is None:
        raise _unsigned(reference)
    if not can_verify():
        raise _untrusted(reference, _NO_VERIFIER, _INSTALL)
    refused = _untrusted(reference, "it is not known by which digest its registry has it", _PULL)
    for digest in digests:
        pinned = replace(reference, digest=digest)
        try:
            if copies := copied_documents(configuration, digest):
                return _judge(pinned, digest, signer, copies, configuration)
        except ImageUntrusted:
            pass  # the registry may have others by now
        bundles = attached_documents(pinned, BUNDLE_TYPE, credentials, configuration.ca_bundle)[1]
        try:
            if bundles:
                return _judge(pinned, digest, signer, bundles, configuration)
            refused = _untrusted(reference, f"no signature is attached to {digest}", _OTHERWISE)
        except ImageUntrusted as error:
            refused = error
    raise refused


def can_verify() -> bool:
    """Whether what checks signatures is installed: the extra `verify`."""
    return find_spec("sigstore") is not None


def refuse_unverifiable(reference: str, origin: str) -> ImageUntrusted:
    """The error where `require` meets an image of no registry. `origin`: a clause that says whence it is."""
    return ImageUntrusted(
        f"could not verify the image {reference!r}: {origin}, so no signature is attached to it",
        "pass `--verify off` to use it as it is",
    )


def expected_signer(reference: ImageReference, configured: str | None) -> str | None:
    """Who must have signed it: a workflow's identity, perhaps with `*` at its end; None: nobody knows."""
    if configured is not None:
        return configured
    if reference.name != REPOSITORY:
        return None
    tag = reference.tag or ""
    if tag == "main" or tag.startswith("dev-"):
        return f"{WORKFLOW}@refs/heads/main"
    bare = tag.removeprefix("v")
    if bare.count(".") >= 2:
        return f"{WORKFLOW}@refs/tags/v{bare}"
    return f"{WORKFLOW}@refs/tags/v*"


_NO_VERIFIER: Final = "what checks signatures is not installed"
_INSTALL: Final = "install stigmer with its extra `verify`, or pass `--verify off`"
_OTHERWISE: Final = "compare it with the release's page; `--verify off` pulls it as it is"
_PULL: Final = "run `stigmer runner pull`, which verifies it; `--verify off` uses it as it is"
_CANNOT_TELL: Final = "try again, name a copy of the trust root in `runner.trustRoot`, or pass `--verify off`"


def _judge(
    reference: ImageReference, digest: str, signer: str, bundles: list[bytes], configuration: Configuration
) -> Verification:
    from stigmer_cli.runner.signatures import CannotTell, verified_statements

    try:
        found, refused = verified_statements(bundles, digest, signer, configuration.runner_trust_root)
    except CannotTell as error:
        raise _untrusted(
            reference, f"there is nothing to check signatures by: {error}", _CANNOT_TELL
        ) from error
    signature = next((one for one in found if one.predicate_type == SIGNATURE), None)
    provenance = next((one for one in found if one.predicate_type == PROVENANCE), None)
    if signature is None:
        raise _untrusted(reference, f"no signature on it holds: {_first(refused)}", _OTHERWISE)
    if provenance is None:
        raise _untrusted(reference, f"no provenance of it holds: {_first(refused)}", _OTHERWISE)
    if (problem := _contradiction(provenance, signature)) is not None:
        raise _untrusted(reference, problem, _OTHERWISE)
    copy_documents(configuration, digest, bundles)
    source = signature.repository.removeprefix("https://")
    return Verification(
        reference,
        f"verified {reference}: signed by {signature.signer}, "
        f"built there from commit {signature.commit[:12]} of {source}",
    )


def _contradiction(provenance: "Statement", signature: "Statement") -> str | None:
    """Where the provenance says something else than the certificates do, which the builder cannot choose."""
    if (provenance.commit, provenance.repository) != (signature.commit, signature.repository):
        return "its signature and its provenance come from different sources"
    try:
        definition = cast("dict[str, Any]", provenance.predicate["buildDefinition"])
        sources = cast("list[dict[str, Any]]", definition["resolvedDependencies"])
        commits = {source["digest"].get("gitCommit") for source in sources} - {None}
    except (KeyError, TypeError, AttributeError):
        return "its provenance is not as SLSA 1.0 has it"
    if commits != {provenance.commit}:
        named = ", ".join(sorted(map(str, commits))) or "no commit"
        return f"its provenance names {named}, and its certificate {provenance.commit}"
    return None


def _first(refused: list[str]) -> str:
    return refused[0] if refused else "there is none"


def _unsigned(reference: ImageReference) -> ImageUntrusted:
    return _untrusted(
        reference, "nobody is named who may sign it", "set `runner.signer` to the workflow that signs it"
    )


def _untrusted(reference: ImageReference, reason: str, hint: str) -> ImageUntrusted:
    return ImageUntrusted(f"could not verify the image {str(reference)!r}: {reason}", hint)
