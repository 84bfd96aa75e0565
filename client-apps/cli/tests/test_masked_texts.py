"""What is shown of files holds no key that can be told from other text."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stigmer_cli.config import load_configuration
from stigmer_cli.rendering.differences import (
    MAX_STEP_CHARACTERS,
    Compared,
    ComparedStep,
    differences_json,
    format_differences,
)
from stigmer_cli.rendering.masked_texts import SecretMask
from stigmer_contract.api import ExecutionResource
from stigmer_contract.events import Usage
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.snapshots import Chain, FileEntry, Piece

KEY = "a-key-of-my-own-0123456789"


@pytest.fixture
def mask(tmp_path: Path) -> SecretMask:
    return SecretMask(load_configuration({"STIGMER_HOME": str(tmp_path), "OPENAI_API_KEY": KEY}))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"+key={KEY};", "+key=[secret llm.openaiApiKey];"),
        (f"ghp_{'a1' * 18} and AKIA{'Q7' * 8}", "[secret] and [secret]"),
        (f"+token: sk-ant-{'x9' * 20}", "+token: [secret]"),
        ("-----BEGIN PRIVATE KEY-----\n+MIIE\n+-----END PRIVATE KEY-----", None),
        ("task-force, disk-usage-of-everything, a npm_config, sk-short", "unchanged"),
        ("3b1f0c2d" * 8, "unchanged"),
    ],
    ids=["configured", "well-known", "prefixed", "key block", "words", "digest"],
)
def test_keys_are_masked_and_words_are_not(mask: SecretMask, text: str, shown: str | None) -> None:
    masked = mask.mask(text)
    if shown is None:
        assert masked == "-----BEGIN PRIVATE KEY-----[secret]-----END PRIVATE KEY-----"
    else:
        assert masked == (text if shown == "unchanged" else shown)


def test_a_comparison_is_masked_before_it_is_cut(mask: SecretMask) -> None:
    blobs = dict[str, bytes]()
    said = "x" * (MAX_STEP_CHARACTERS - len(KEY) // 2) + KEY
    sides = [compared(blobs, said + end, f"first\nkey={KEY}{end}\nlast\n") for end in ("one", "other")]
    text = format_differences(sides[0], sides[1], blobs.__getitem__, mask.mask)
    json = str(differences_json(sides[0], sides[1], blobs.__getitem__, mask.mask))
    assert KEY[:10] not in text
    assert KEY[:10] not in json
    assert "+key=[secret llm.openaiApiKey]other" in text


def test_files_that_differ_in_a_secret_alone_say_so(mask: SecretMask) -> None:
    blobs = dict[str, bytes]()
    sides = [compared(blobs, "done", f"key=sk-{character * 20}\n") for character in "ab"]
    text = format_differences(sides[0], sides[1], blobs.__getitem__, mask.mask)
    assert "they differ in what is masked as a secret alone" in text
    assert "sk-" not in text


def compared(blobs: dict[str, bytes], said: str, content: str) -> Compared:
    """An execution that said something and left a file."""
    execution = ExecutionResource(
        execution_id="exe_1",
        session_id="ses_1",
        agent_name="main",
        model=None,
        phase=ExecutionPhase.COMPLETED,
        attempt=1,
        last_sequence=3,
        cancel_requested=False,
        usage=Usage(),
        created_at=datetime.now(UTC),
    )
    stored = content.encode()
    digest = hashlib.sha256(stored).hexdigest()
    blobs[digest] = stored
    entry = FileEntry(0o644, 0, len(stored), digest, (Piece(digest, 0, len(stored), False),))
    chain = Chain({"file.txt": entry}, [], 1, 1, 1, 0)
    return Compared(execution, [ComparedStep(1, "answer", said, "")], chain)
