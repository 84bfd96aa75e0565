"""The part of the manifest that names client tools: no runner carries them out, but whoever is connected."""

from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from stigmer_contract.manifest_parts import Duration, ManifestPart
from stigmer_contract.manifest_scripts import TOOL_NAME, check_parameters, check_tool_name


class ClientTool(ManifestPart):
    """A tool that a program or person outside carries out. The agent waits for the result, at no cost."""

    name: Annotated[str, AfterValidator(check_tool_name)] = Field(pattern=TOOL_NAME, examples=["pick-colour"])
    """Name of the tool, as the model calls it: letters, digits, `_` and `-`, at most 64 characters."""
    description: str = Field(min_length=1, max_length=4096)
    """What the tool does, for the model."""
    parameters: Annotated[dict[str, JsonValue], AfterValidator(check_parameters)] = Field(
        default_factory=lambda: {"type": "object", "properties": {}}
    )
    """JSON Schema of the arguments, an object."""
    expires_after: Duration | None = None
    """How long a result is waited for; default: until there is one. The model is told when there was none."""
