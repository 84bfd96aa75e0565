"""Asks model providers, at no cost, whether they answer and take the key: `doctor`'s question.

The runner decides for itself how it reaches a provider (agent_runner.models); this follows its rules: the
general key and base URL belong to `llm.provider` where that is set.
"""

import http.client
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from stigmer_cli.config import Configuration, Secret
from stigmer_cli.stack.clock_diagnosis import ClockReading, read_date_header
from stigmer_cli.stack.finding import Finding, Outcome
from stigmer_cli.stack.model_settings import find_ollama
from stigmer_contract.model_names import DEFAULT_KEY_HEADER, ModelEndpoint

_TIMEOUT_SECONDS = 5.0
_OWN_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com/v1"}
_KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
_ANTHROPIC_VERSION = "2023-06-01"  # https://docs.anthropic.com/en/api/versioning
_REFUSALS = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


def check_models(configuration: Configuration) -> tuple[list[Finding], list[ClockReading]]:
    """The model for agents that name none, then every provider that a setting or a key speaks of.

    Also what their clocks say.
    """
    wanted = [configuration.llm_provider] if configuration.llm_provider else []
    wanted += ["openai"] if configuration.openai_api_key else []
    wanted += ["anthropic"] if configuration.anthropic_api_key else []
    wanted += [endpoint.name for endpoint in configuration.model_endpoints]
    asked = dict.fromkeys(provider for provider in wanted if provider != "replay")
    readings: list[ClockReading] = []
    findings = [_check_provider(configuration, provider, readings) for provider in asked]
    return [_check_default(configuration), *findings], readings


def _check_default(configuration: Configuration) -> Finding:
    name = "default model"
    if configuration.names_model:
        return Finding(name, Outcome.PASSED, f"{configuration.llm_provider}:{configuration.llm_model}")
    if found := find_ollama(configuration):
        return Finding(name, Outcome.PASSED, f"none is set; {found} of the running Ollama is used")
    remedy = "set STIGMER_LLM_PROVIDER and STIGMER_LLM_MODEL, or write a `model` into each manifest"
    return Finding(name, Outcome.WARNING, "none is set, and no Ollama answers", remedy)


def _check_provider(configuration: Configuration, provider: str, readings: list[ClockReading]) -> Finding:
    name = f"provider {provider}"
    for endpoint in configuration.model_endpoints:
        if endpoint.name == provider:
            return _check_endpoint(configuration, endpoint, readings)
    is_general = provider == (configuration.llm_provider or "openai-compatible")
    base_url = configuration.llm_base_url if is_general else None
    base_url = base_url or _own_url(configuration, provider)
    if provider == "ollama":
        base_url = base_url or f"{configuration.ollama_base_url}/v1"
    if base_url is None:
        return Finding(name, Outcome.FAILED, "it has no address", "set STIGMER_LLM_BASE_URL")
    key = _find_key(configuration, provider, is_general)
    if key is None and provider in _KEY_VARIABLES:
        return Finding(name, Outcome.FAILED, "it has no API key", f"set {_KEY_VARIABLES[provider]}")
    return _ask(name, f"{base_url}/models", _headers(provider, key), configuration.ca_bundle, readings)


def _check_endpoint(
    configuration: Configuration, endpoint: ModelEndpoint, readings: list[ClockReading]
) -> Finding:
    name, headers = f"endpoint {endpoint.name}", dict(endpoint.headers)
    if endpoint.key_secret is not None:
        kept = f"its key is the secret {endpoint.key_secret}, which only the server can read"
        return Finding(name, Outcome.PASSED, kept)
    if endpoint.key is not None:
        key = configuration.endpoint_keys.get(endpoint.key)
        if key is None:
            return Finding(name, Outcome.FAILED, "it has no API key", f"set {endpoint.key}")
        bearer = endpoint.key_header == DEFAULT_KEY_HEADER
        headers[endpoint.key_header] = f"Bearer {key.reveal()}" if bearer else key.reveal()
    base, mark, query = endpoint.url.partition("?")
    return _ask(name, f"{base}/models{mark}{query}", headers, configuration.ca_bundle, readings)


def _own_url(configuration: Configuration, provider: str) -> str | None:
    match provider:
        case "openai":
            return configuration.openai_base_url or _OWN_URLS[provider]
        case "anthropic":
            base_url = configuration.anthropic_base_url or _OWN_URLS[provider]
            return base_url.removesuffix("/v1") + "/v1"
        case _:
            return None


def _find_key(configuration: Configuration, provider: str, is_general: bool) -> Secret | None:
    own = {"openai": configuration.openai_api_key, "anthropic": configuration.anthropic_api_key}
    return (configuration.llm_api_key if is_general else None) or own.get(provider)


def _headers(provider: str, key: Secret | None) -> dict[str, str]:
    if key is None:
        return {}
    if provider == "anthropic":
        return {"x-api-key": key.reveal(), "anthropic-version": _ANTHROPIC_VERSION}
    return {"Authorization": f"Bearer {key.reveal()}"}


def _ask(
    name: str, url: str, headers: dict[str, str], authorities: Path | None, readings: list[ClockReading]
) -> Finding:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # http and https only, as read
    trust = ssl.create_default_context(cafile=authorities) if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(  # noqa: S310  # as above
            request, timeout=_TIMEOUT_SECONDS, context=trust
        ) as answer:
            _note_clock(name, answer.headers.get("Date"), readings)
            return Finding(
                name, Outcome.PASSED, f"{url} answers and takes the key" if headers else f"{url} answers"
            )
    except urllib.error.HTTPError as error:
        error.close()
        _note_clock(name, error.headers.get("Date"), readings)
        if error.code in _REFUSALS:
            return Finding(name, Outcome.FAILED, f"{url} refuses the key ({error.code})", "set another key")
        return Finding(
            name, Outcome.WARNING, f"{url} answers {error.code}", "see whether the base URL is right"
        )
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            problem = f"the certificate of {url} is not trusted: {error.reason.verify_message}"
            return Finding(name, Outcome.FAILED, problem, "run `stigmer config set caBundle FILE`")
        return _unreachable(name, url, error)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _unreachable(name, url, error)


def _unreachable(name: str, url: str, error: Exception) -> Finding:
    reason = str(getattr(error, "reason", error)) or type(error).__name__
    return Finding(
        name, Outcome.FAILED, f"{url} cannot be reached: {reason}", "check the network and the URL"
    )


def _note_clock(source: str, date: str | None, readings: list[ClockReading]) -> None:
    if (reading := read_date_header(source, date)) is not None:
        readings.append(reading)
