"""The model settings of the stack: whether they have changed, and an Ollama to use where none is set."""

import json
from typing import Any, cast

from stigmer_cli.config import Configuration, Secret, settings_by_field

MODEL_FIELDS = tuple(name for name, setting in settings_by_field().items() if setting.key.startswith("llm."))
"""The fields of `Configuration` that the runner is told about models."""

OLLAMA_TIMEOUT_SECONDS = 0.5
"""Of each question: Ollama answers these from memory, mostly on this machine."""
_MAX_ASKED = 10
_MAX_ANSWER_BYTES = 2_000_000


def model_fingerprint(configuration: Configuration, token: str) -> str:
    """Equal for equal model settings. Keyed, so that it tells nothing about an API key."""
    import hashlib
    import hmac

    values: list[object] = [getattr(configuration, name) for name in MODEL_FIELDS]
    values += configuration.endpoint_keys.values()
    plain = [value.reveal() if isinstance(value, Secret) else value for value in values]
    return hmac.new(token.encode(), json.dumps(plain).encode(), hashlib.sha256).hexdigest()


def find_ollama(configuration: Configuration) -> str | None:
    """A model of a running Ollama that can call tools, as `ollama:NAME`, the newest first; else None.

    Source: Ollama's API, `GET /api/tags` and `POST /api/show`.
    """
    base_url = configuration.ollama_base_url
    answer = _ask(f"{base_url}/api/tags", None)
    names = [str(model.get("name", "")) for model in _dicts(answer.get("models"))]
    for name in [name for name in names if name][:_MAX_ASKED]:
        capabilities = _ask(f"{base_url}/api/show", {"model": name}).get("capabilities")
        if isinstance(capabilities, list) and "tools" in capabilities:
            return f"ollama:{name}"
    return None


def _ask(url: str, body: dict[str, str] | None) -> dict[str, Any]:
    import urllib.request

    request = urllib.request.Request(  # noqa: S310  # the configuration allows http and https only
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=OLLAMA_TIMEOUT_SECONDS) as response:
            answer: object = json.loads(response.read(_MAX_ANSWER_BYTES))
    except (OSError, ValueError):  # nobody there, or not an Ollama
        return {}
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}


def _dicts(value: object) -> list[dict[str, Any]]:
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]
