"""What is shown of files holds no key that can be told from other text."""

from pathlib import Path

import pytest

from stigmer_cli.config import load_configuration
from stigmer_cli.rendering.masked_texts import SecretMask

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
    assert mask.mask_json({"a": [text, 1, None]}) == {"a": [masked, 1, None]}
