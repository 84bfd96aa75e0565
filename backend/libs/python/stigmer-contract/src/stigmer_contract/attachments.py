"""Attachments: files that a person gives to an execution beside its input. Their bytes are blobs."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_ATTACHMENTS: Final = 20
MAX_ATTACHMENT_BYTES: Final = 64 * 1024 * 1024
MAX_ATTACHMENTS_BYTES: Final = 256 * 1024 * 1024
"""Of all files of one execution."""
MAX_NAME_BYTES: Final = 255
"""What the usual file systems take."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_attachment_name(name: str) -> str:
    """A file's name, as it was.

    Raises:
        ValueError: why it is none.
    """
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is not a file's name")
    if _CONTROL.search(name):
        raise ValueError(f"{name!r} holds a control character")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{name!r} is not valid text") from None
    if size > MAX_NAME_BYTES:
        raise ValueError(f"a file's name has at most {MAX_NAME_BYTES} bytes")
    return name


AttachmentName = Annotated[str, AfterValidator(check_attachment_name)]


class AttachedFile(BaseModel):
    """A file of a new execution; its bytes were stored with `PUT /v1/blobs/{sha256}` before."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: AttachmentName = Field(examples=["invoice.pdf"])
    """What it is called: no path."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Attachment(BaseModel):
    """A file that came with an execution's input."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: AttachmentName
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0)


def place_in_workspace(attachment: Attachment) -> str:
    """Where it is laid where the model is not given it itself: the same whoever asks, and in nobody's way."""
    return f"attachments/{attachment.sha256[:8]}/{attachment.name}"
