"""How many tokens a model takes: by the manifest, the model's data, the provider's word, or an assumption.

One of these per process, which keeps what was learned of each model. What a provider says is bounded here.
"""

import logging
import re
from dataclasses import dataclass, field
from typing import Final, cast

import httpx2
from pydantic_ai.models import Model

from agent_runner.models.asking import AsksDirectly, Endpoint
from agent_runner.models.event_stream import JsonObject, parse_json
from agent_runner.models.replay import ReplayModel
from stigmer_contract.compaction import WindowSource

logger = logging.getLogger(__name__)

ASSUMED_TOKENS: Final = 32_000
LEAST_TOKENS: Final = 1024
MOST_TOKENS: Final = 100_000_000
OLLAMA_DEFAULT_TOKENS: Final = 4096
"""What Ollama gives a model at least, unless somebody sets `num_ctx` (`OLLAMA_CONTEXT_LENGTH`)."""
ASKING_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 4 << 20
_LISTED: Final = ("max_model_len", "context_length", "max_context_length", "context_window", "n_ctx")
"""vLLM; OpenRouter and Together; LM Studio and Mistral; Groq; llama.cpp."""
_NUM_CTX: Final = re.compile(r"^[^\S\n]*+num_ctx[^\S\n]++(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Window:
    """The window of a model."""

    tokens: int
    source: WindowSource


@dataclass
class ContextWindows:
    """What is known of models' windows, by `provider:name`."""

    _learned: dict[str, Window] = field(default_factory=dict[str, Window])
    _asked: dict[str, int | None] = field(default_factory=dict[str, int | None])

    async def of(self, model: Model, reference: str, stated: int | None) -> Window | None:
        """The model's window; None: it has none, since it only plays what was recorded.

        Args:
            stated: what the manifest says.
        """
        if isinstance(model, ReplayModel):
            return None
        if (learned := self._learned.get(reference)) is not None and (
            stated is None or learned.tokens < stated
        ):
            return learned
        if stated is not None:
            return Window(stated, WindowSource.MANIFEST)
        provider = reference.partition(":")[0]
        # Of a model that Ollama runs only Ollama knows how much of its window it gives it.
        if provider != "ollama" and (known := _plausible(model.context_window)) is not None:
            return Window(known, WindowSource.MODEL_DATA)
        if reference not in self._asked:
            self._asked[reference] = await _ask(model, provider)
        if (said := self._asked[reference]) is not None:
            return Window(said, WindowSource.PROVIDER)
        return Window(ASSUMED_TOKENS, WindowSource.ASSUMED)

    def learn(self, reference: str, tokens: int) -> Window:
        """A request was refused: the window is no larger than that."""
        tokens = max(tokens, LEAST_TOKENS)
        known = self._learned.get(reference)
        if known is None or tokens < known.tokens:
            self._learned[reference] = Window(tokens, WindowSource.ERROR)
            logger.info("model %s takes %d tokens at most, as its provider says", reference, tokens)
        return self._learned[reference]


async def _ask(model: Model, provider: str) -> int | None:
    if not isinstance(model, AsksDirectly):
        return None
    try:
        if provider == "ollama":
            return await _ollama_window(model.endpoint, model.model_name)
        return await _listed_window(model.endpoint, model.model_name)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, OSError) as error:
        logger.debug("the window of model %s is not told: %s", model.model_name, type(error).__name__)
        return None


async def _listed_window(endpoint: Endpoint, name: str) -> int | None:
    """What a server's list of models says (`GET /models`), as far as it does."""
    listed = await _fetch(endpoint, "GET", endpoint.url("/models"), None)
    entries = listed.get("data") if isinstance(listed, dict) else None
    for entry in cast("list[object]", entries) if isinstance(entries, list) else []:
        if isinstance(entry, dict) and cast("JsonObject", entry).get("id") == name:
            fields = cast("JsonObject", entry)
            return next((n for key in _LISTED if (n := _plausible(fields.get(key))) is not None), None)
    return None


async def _ollama_window(endpoint: Endpoint, name: str) -> int | None:
    """What Ollama gives the model: where it is loaded that, else what it is set to."""
    root = endpoint.base_url.partition("?")[0].rstrip("/").removesuffix("/v1")
    running = await _fetch(endpoint, "GET", f"{root}/api/ps", None)
    loaded = running.get("models") if isinstance(running, dict) else None
    for entry in cast("list[object]", loaded) if isinstance(loaded, list) else []:
        if isinstance(entry, dict) and _is_named(cast("JsonObject", entry), name):
            in_force = _plausible(cast("JsonObject", entry).get("context_length"))
            if in_force is not None:
                return in_force
    shown = await _fetch(endpoint, "POST", f"{root}/api/show", {"model": name})
    if not isinstance(shown, dict):
        return None
    parameters, facts = shown.get("parameters"), shown.get("model_info")
    if isinstance(parameters, str) and (found := _NUM_CTX.search(parameters)) is not None:
        return _plausible(int(found[1]))
    lengths = [
        length
        for key, value in (cast("JsonObject", facts) if isinstance(facts, dict) else {}).items()
        if key.endswith(".context_length") and (length := _plausible(value)) is not None
    ]
    return min(lengths[0], OLLAMA_DEFAULT_TOKENS) if lengths else None


def _is_named(entry: JsonObject, name: str) -> bool:
    names = {entry.get("name"), entry.get("model")}
    return name in names or f"{name}:latest" in names


async def _fetch(endpoint: Endpoint, method: str, url: str, body: dict[str, str] | None) -> JsonObject | None:
    """A JSON object that the server answers with; None where it answers with something else."""
    async with endpoint.client.stream(
        method, url, headers=dict(endpoint.headers), json=body, timeout=ASKING_SECONDS
    ) as response:
        if response.status_code != 200:
            return None
        content = b""
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                return None
    value = parse_json(content.decode(errors="replace"))
    return cast("JsonObject", value) if isinstance(value, dict) else None


def _plausible(tokens: object) -> int | None:
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        return None
    return tokens if LEAST_TOKENS <= tokens <= MOST_TOKENS else None
