"""Signs an image and what is said about it, with cosign: without keys of ours, as the workflow that runs.

cosign attaches the signatures to the image's digest, as OCI referrers.
"""

from pathlib import Path
from typing import Final

from stigmer_release.programs import run_program

PROVENANCE_TYPE: Final = "slsaprovenance1"
SBOM_TYPE: Final = "cyclonedx"


def sign_image(reference: str, provenance: Path, bills_of_materials: list[Path]) -> None:
    """Signs `NAME@sha256:…`, then attests the documents.

    Raises:
        ProgramFailed: cosign failed; doing it again adds a second signature, which does no harm.
    """
    run_program("cosign", "sign", "--yes", reference)
    attested = [(PROVENANCE_TYPE, provenance), *((SBOM_TYPE, bill) for bill in bills_of_materials)]
    for kind, file in attested:
        run_program("cosign", "attest", "--yes", "--type", kind, "--predicate", str(file), reference)
