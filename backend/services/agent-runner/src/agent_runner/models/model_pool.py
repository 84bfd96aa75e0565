"""Finds the model that an execution uses, and keeps what models share: connections and cassettes.

One pool per process. Nothing is connected to, and no provider's SDK imported, before a model is built.
"""

import asyncio
import hashlib
import re
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx2
from pydantic import SecretStr
from pydantic_ai.models import Model, create_async_httpx2_client

from agent_runner.errors import ExecutionFailure
from agent_runner.models.asking import Endpoint
from agent_runner.models.context_windows import ContextWindows
from agent_runner.models.replay import ReplayModel
from agent_runner.models.replay_check import shorten_name
from agent_runner.settings import KeyedEndpoint, RunnerSettings
from stigmer_contract.cassette import Cassette, load_cassette
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.errors import CassetteError
from stigmer_contract.model_names import DEFAULT_KEY_HEADER, PROVIDERS, split_model

MAX_CASSETTES_KEPT: Final = 32
_BLOB_PREFIX: Final = "sha256:"
_KEY: Final = re.compile(r"[!-~]([ -~]*[!-~])?")

LoadBlob = Callable[[str], Awaitable[bytes]]
"""The content of a blob by its SHA-256, in hex."""


@dataclass(frozen=True)
class BuiltModel:
    """A model that is ready to be asked."""

    model: Model
    reference: str
    """`provider:name`."""


class ModelPool:
    """Builds models; those of one provider share their connections. To be closed at shutdown."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._http_clients: dict[str, httpx2.AsyncClient] = {}
        self._cassettes: dict[str, Cassette] = {}
        """By SHA-256, the least recently used first."""
        self._building = asyncio.Lock()
        self.windows = ContextWindows()
        """What is known of how much each model takes."""

    async def build(
        self,
        reference: str | None,
        load_blob: LoadBlob,
        keys: Mapping[str, SecretStr] = MappingProxyType({}),
    ) -> BuiltModel:
        """The model called `provider:name`; None: the runner's default.

        `keys` are the owner's secrets that endpoints want, by name.

        Raises:
            ExecutionFailure: no model is named anywhere, or what it needs is not configured.
        """
        provider, name = self._resolve(reference)
        if provider == "replay":
            model: Model = ReplayModel(name, await self._load_cassette(name, load_blob))
        else:
            # Imports of a second and more, which must not hold up the heartbeats of other executions.
            async with self._building:
                model = await asyncio.to_thread(self._build, provider, name, keys)
        return BuiltModel(model, f"{provider}:{name}")

    async def close(self) -> None:
        """Close all connections. Models that were built cannot be asked afterwards."""
        clients = list(self._http_clients.values())
        self._http_clients.clear()
        for client in clients:
            await client.aclose()

    def _resolve(self, reference: str | None) -> tuple[str, str]:
        if reference is not None:
            try:
                return split_model(reference)
            except ValueError as error:
                raise ExecutionFailure(ErrorCode.MODEL_NOT_CONFIGURED, str(error)) from error
        provider, name = self._settings.llm_provider, self._settings.llm_model
        if provider is not None and name is not None:
            return provider, name
        missing = [
            variable
            for variable, value in (("STIGMER_LLM_PROVIDER", provider), ("STIGMER_LLM_MODEL", name))
            if value is None
        ]
        raise ExecutionFailure(
            ErrorCode.MODEL_NOT_CONFIGURED,
            "no model is named by the agent, the command, or the runner's environment",
            "write `model: provider:name` into the manifest, give --model provider:name, "
            f"or set {' and '.join(missing)} for the runner",
        )

    # --- providers ----------------------------------------------------------------------------

    def _build(self, provider: str, name: str, keys: Mapping[str, SecretStr]) -> Model:
        """Runs in a thread. Each provider's SDK is imported only here."""
        settings = self._settings
        match provider:
            case "openai":
                from agent_runner.models.openai_models import OPENAI_BASE_URL, openai_model

                key = self._key(provider, "OPENAI_API_KEY", settings.openai_api_key)
                base_url = self._general_url(provider) or settings.openai_base_url or OPENAI_BASE_URL
                return openai_model(name, endpoint=self._endpoint(provider, base_url, _bearer(key)))
            case "anthropic":
                from agent_runner.models.anthropic_models import (
                    ANTHROPIC_BASE_URL,
                    ANTHROPIC_VERSION,
                    anthropic_model,
                )

                key = self._key(provider, "ANTHROPIC_API_KEY", settings.anthropic_api_key)
                base_url = self._general_url(provider) or settings.anthropic_base_url or ANTHROPIC_BASE_URL
                # With `/v1` at its end or not, as with Anthropic's SDK.
                base_url = base_url.removesuffix("/v1") + "/v1"
                headers = {"x-api-key": key, "anthropic-version": ANTHROPIC_VERSION}
                return anthropic_model(name, endpoint=self._endpoint(provider, base_url, headers))
            case "ollama":
                from agent_runner.models.openai_models import ollama_model

                # Ollama speaks OpenAI's API under `/v1`.
                base_url = self._general_url(provider) or settings.ollama_base_url
                base_url = base_url if httpx2.URL(base_url).path.strip("/") else f"{base_url}/v1"
                headers = _bearer(self._general_key(provider))
                return ollama_model(name, endpoint=self._endpoint(provider, base_url, headers))
            case "openai-compatible":
                base_url = self._general_url(provider)
                if base_url is None:
                    raise ExecutionFailure(
                        ErrorCode.MODEL_NOT_CONFIGURED,
                        f"model 'openai-compatible:{name}' has no server to be asked from",
                        "set STIGMER_LLM_BASE_URL for the runner, such as http://localhost:8000/v1",
                    )
                headers = _bearer(self._general_key(provider))
                return _compatible(name, self._endpoint(provider, base_url, headers))
            case _:
                return _compatible(name, self._own_endpoint(provider, keys))

    def _own_endpoint(self, name: str, keys: Mapping[str, SecretStr]) -> Endpoint:
        """The endpoint of the person's that has this name."""
        for keyed in self._settings.llm_endpoints:
            if keyed.endpoint.name == name:
                return self._endpoint(name, keyed.endpoint.url, _headers_of(keyed, keys))
        names = (*PROVIDERS, *(keyed.endpoint.name for keyed in self._settings.llm_endpoints))
        raise ExecutionFailure(
            ErrorCode.MODEL_NOT_CONFIGURED,
            f"the runner knows no provider or endpoint {name!r}; there are {', '.join(names)}",
            f"correct the model's name, or describe {name!r} in `llm.endpoints` (STIGMER_LLM_ENDPOINTS)",
        )

    def _is_general_for(self, provider: str) -> bool:
        """Whether STIGMER_LLM_API_KEY and STIGMER_LLM_BASE_URL are meant for this provider.

        They belong to STIGMER_LLM_PROVIDER, else to `openai-compatible`: no other provider may get that
        key, nor that server another provider's.
        """
        return provider == (self._settings.llm_provider or "openai-compatible")

    def _general_key(self, provider: str) -> str | None:
        key = self._settings.llm_api_key
        return key.get_secret_value() if key and self._is_general_for(provider) else None

    def _key(self, provider: str, variable: str, own_key: SecretStr | None) -> str:
        key = self._general_key(provider) or (own_key.get_secret_value() if own_key else None)
        if key is None:
            raise ExecutionFailure(
                ErrorCode.MODEL_NOT_CONFIGURED,
                f"there is no API key for provider {provider!r}",
                f"set {variable} or {variable}_FILE for the runner",
            )
        return key

    def _general_url(self, provider: str) -> str | None:
        return self._settings.llm_base_url if self._is_general_for(provider) else None

    def _endpoint(self, provider: str, base_url: str, headers: Mapping[str, str]) -> Endpoint:
        return Endpoint(base_url, headers, self._http_client(provider))

    def _http_client(self, provider: str) -> httpx2.AsyncClient:
        """Honours the proxy variables and SSL_CERT_FILE, as httpx2 does by default."""
        if provider not in self._http_clients:
            self._http_clients[provider] = create_async_httpx2_client()
        return self._http_clients[provider]

    # --- cassettes ----------------------------------------------------------------------------

    async def _load_cassette(self, name: str, load_blob: LoadBlob) -> Cassette:
        if name.startswith(_BLOB_PREFIX):
            content, sha256 = None, name.removeprefix(_BLOB_PREFIX)
        else:
            content = await asyncio.to_thread(self._read_cassette, name)
            sha256 = hashlib.sha256(content).hexdigest()
        cassette = self._cassettes.pop(sha256, None)
        if cassette is None:
            content = await load_blob(sha256) if content is None else content
            cassette = await asyncio.to_thread(_parse_cassette, name, content)
        self._cassettes[sha256] = cassette
        while len(self._cassettes) > MAX_CASSETTES_KEPT:
            del self._cassettes[next(iter(self._cassettes))]
        return cassette

    def _read_cassette(self, path: str) -> bytes:
        if self._settings.mode != "local":
            raise ExecutionFailure(
                ErrorCode.MODEL_NOT_CONFIGURED,
                f"this runner takes cassettes from the blob store only, not the file {path!r}",
                "run `stigmer run --model replay:FILE`, which uploads the file",
            )
        try:
            # Not a pipe that nobody writes to, nor a device without end: an agent may have left one there.
            if not stat.S_ISREG(Path(path).stat().st_mode):
                raise OSError(0, "it is not a file")
            return Path(path).read_bytes()
        except OSError as error:
            raise ExecutionFailure(
                ErrorCode.MODEL_NOT_CONFIGURED, f"could not read the cassette {path!r}: {error.strerror}"
            ) from error


def _compatible(name: str, endpoint: Endpoint) -> Model:
    from agent_runner.models.openai_models import compatible_model

    return compatible_model(name, endpoint=endpoint)


def _headers_of(keyed: KeyedEndpoint, keys: Mapping[str, SecretStr]) -> dict[str, str]:
    endpoint = keyed.endpoint
    if endpoint.key is None and endpoint.key_secret is None:
        return {**_bearer(None), **endpoint.headers}
    found = keyed.key if endpoint.key_secret is None else keys.get(endpoint.key_secret)
    if found is None:
        raise ExecutionFailure(
            ErrorCode.MODEL_NOT_CONFIGURED,
            f"there is no API key for endpoint {endpoint.name!r}",
            f"set {endpoint.key} or {endpoint.key}_FILE for the runner"
            if endpoint.key_secret is None
            else f"run `stigmer secrets set {endpoint.key_secret}` as the execution's owner, and give the "
            "server the runners' STIGMER_LLM_ENDPOINTS",
        )
    key = found.get_secret_value().strip()
    if not _KEY.fullmatch(key):
        raise ExecutionFailure(
            ErrorCode.MODEL_NOT_CONFIGURED,
            f"the API key for endpoint {endpoint.name!r} holds characters that no HTTP header can carry",
            "set the key alone, in one line",
        )
    sent = _bearer(key) if endpoint.key_header == DEFAULT_KEY_HEADER else {endpoint.key_header: key}
    return {**endpoint.headers, **sent}


def _bearer(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key or 'no-key'}"}


def _parse_cassette(name: str, content: bytes) -> Cassette:
    try:
        return load_cassette(content)
    except CassetteError as error:
        raise ExecutionFailure(
            ErrorCode.MODEL_NOT_CONFIGURED, f"the cassette {shorten_name(name)!r} cannot be played: {error}"
        ) from error
