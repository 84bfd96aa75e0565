"""Which files a model is known to take in a conversation. What is not known is taken for no. Pure."""

import re
from typing import Final

_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TAKEN: Final = {
    "openai": _PICTURES | {"application/pdf"},
    "anthropic": _PICTURES | {"application/pdf"},
}
"""By provider; of the models that other servers run each takes something else."""
_TEXT_ONLY: Final = re.compile(
    r"openai:(gpt-3\.5.*|gpt-4(-\d{4}.*)?|o1-mini.*|o1-preview.*|o3-mini.*)|anthropic:claude-(2|instant).*"
)


def takes_file(reference: str, media_type: str) -> bool:
    """Whether the model called `provider:name` takes a file of that type."""
    if _TEXT_ONLY.fullmatch(reference):
        return False
    return media_type in _TAKEN.get(reference.partition(":")[0], ())
