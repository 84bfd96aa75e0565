"""Gives the agent the files that came with the person's words.

Pictures and PDFs go to the model where it is known to take them, and short texts always. All else is laid
into the workspace, and the model is told where. What is made of a file depends on its bytes and the model's
name alone, so that a later leg makes the same of it.
"""

from typing import Final

from pydantic_ai.messages import BinaryContent, UserContent
from pydantic_ai.workspaces import WorkspaceError

from agent_runner.errors import AttemptSuperseded, ExecutionFailure, ServerRefused
from agent_runner.models import file_note, takes_file
from agent_runner.server_client import LegClient
from agent_runner.toolsets.file_content import MAX_MEDIA_BYTES, is_binary, sniff_media_type
from agent_runner.workspace import SessionWorkspace
from stigmer_contract.attachments import Attachment, place_in_workspace
from stigmer_contract.error_codes import ErrorCode

MAX_TEXT_BYTES: Final = 32 * 1024
"""Of a text that stands in the conversation itself."""
MAX_SHOWN_BYTES: Final = 16_000_000
"""Of all files that the model itself is given: in base64 below what the large providers take at once."""


async def prompt_with(
    text: str,
    attachments: list[Attachment],
    *,
    model: str,
    client: LegClient,
    workspace: SessionWorkspace,
) -> str | list[UserContent]:
    """The person's words, and behind them what the model is given or told of each file.

    Args:
        text: the words.
        attachments: in the person's order.
        model: `provider:name`.
        client: where the bytes are had.
        workspace: where files are laid.

    Raises:
        ExecutionFailure: a file cannot be had, or cannot be laid into the workspace.
    """
    if not attachments:
        return text
    content: list[UserContent] = [text]
    room = MAX_SHOWN_BYTES
    for attachment in attachments:
        data = await _load(client, attachment)
        parts = _shown(attachment, data, model) if len(data) <= room else None
        if parts is None:
            parts = [_told(attachment, await _lay_down(workspace, attachment, data))]
        else:
            room -= len(data)
        content += parts
    return content


def _shown(attachment: Attachment, data: bytes, model: str) -> list[UserContent] | None:
    """The file as the model is given it; None where it is not."""
    media_type = sniff_media_type(data)
    if media_type is not None:
        if len(data) > MAX_MEDIA_BYTES or not takes_file(model, media_type):
            return None
        return [
            file_note(attachment.name, f"[attached: {attachment.name}]"),
            BinaryContent(data=data, media_type=media_type),
        ]
    if len(data) > MAX_TEXT_BYTES or is_binary(data):
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return [file_note(attachment.name, f"[attached: {attachment.name}]\n{text}")]


def _told(attachment: Attachment, place: str) -> UserContent:
    what = f"{attachment.name}, {attachment.size_bytes} bytes"
    return file_note(attachment.name, f"[attached: {what}, in the working directory at {place!r}]")


async def _load(client: LegClient, attachment: Attachment) -> bytes:
    try:
        return await client.load_blob(attachment.sha256)
    except AttemptSuperseded:
        raise
    except ServerRefused as error:
        raise ExecutionFailure(
            ErrorCode.INVALID_REQUEST,
            f"could not get the attached file {attachment.name!r}: {error}",
            "attach it to a new execution",
        ) from error


async def _lay_down(workspace: SessionWorkspace, attachment: Attachment, data: bytes) -> str:
    """Where the file lies from here on; what is there already, the agent may have changed since."""
    place = place_in_workspace(attachment)
    try:
        path = f"{await workspace.working_dir()}/{place}"
        if not await workspace.exists(path):
            await workspace.write_bytes(path, data)
    except (OSError, WorkspaceError) as error:
        raise ExecutionFailure(
            ErrorCode.WORKSPACE_UNAVAILABLE,
            f"could not lay the attached file {attachment.name!r} into the workspace: {error}",
            "make room in the workspace, or let the runner write to it",
        ) from error
    return place
