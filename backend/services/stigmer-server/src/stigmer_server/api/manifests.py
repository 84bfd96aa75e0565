"""The route `/v1/manifests/validate`: what is wrong with a manifest, before anything is applied."""

import asyncio
from typing import Final

from fastapi import APIRouter

from stigmer_contract.api import ManifestFinding, ManifestValidation, ValidateManifest
from stigmer_contract.errors import ManifestError
from stigmer_server.api.access import NEEDS_USER, GuardedRoute
from stigmer_server.api.problems import problem_responses

router = APIRouter(prefix="/v1/manifests", tags=["agents"], route_class=GuardedRoute)

_SOURCE: Final = "manifest"


@router.post(
    "/validate", responses=problem_responses(), openapi_extra=NEEDS_USER, response_model_exclude_unset=True
)
async def validate_manifest(request: ValidateManifest) -> ManifestValidation:
    """What `stigmer validate` says of a text. Nothing is kept; files that it names are not seen."""
    return await asyncio.to_thread(_validate, request.text)


def _validate(text: str) -> ManifestValidation:
    # Only who edits a manifest pays for the reader of YAML.
    from stigmer_contract.manifest import unsupported_fields
    from stigmer_contract.manifest_reader import read_manifests

    try:
        manifests = read_manifests(text, _SOURCE)
    except ManifestError as error:
        findings = [
            ManifestFinding(
                line=problem.line,
                column=problem.column,
                field_path=problem.field_path,
                message=problem.message,
                hint=problem.hint,
            )
            for problem in error.problems
        ]
        return ManifestValidation(manifests=[], findings=findings)
    unsupported = [name for manifest in manifests for name in unsupported_fields(manifest.spec)]
    return ManifestValidation(manifests=manifests, findings=[], unsupported=unsupported)
