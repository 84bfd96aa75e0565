"""Which model answers where manifest and flag name none: the configuration's, or a running Ollama's."""

from stigmer_cli.config import Configuration
from stigmer_cli.errors import ModelNotConfigured
from stigmer_cli.output import print_note
from stigmer_cli.stack import find_ollama, running_version
from stigmer_cli.stack.lifecycle import ensure_token
from stigmer_cli.stack.model_settings import model_fingerprint
from stigmer_cli.stack.state import StackFiles, read_state


def choose_model(configuration: Configuration) -> str | None:
    """The model to ask for; None where the runner knows one itself.

    Raises:
        ModelNotConfigured: there is none; says what can be set.
    """
    if configuration.names_model or configuration.server_endpoint is not None:
        return None
    if running_version(configuration) is not None and not _has_same_settings(configuration):
        return None  # the stack was started with other settings than this terminal's, perhaps with a model
    found = find_ollama(configuration)
    if found is None:
        raise ModelNotConfigured(
            "could not choose a model: neither the manifest nor the configuration names one",
            "pass `--model openai:gpt-5` with OPENAI_API_KEY set, or `anthropic:…` with ANTHROPIC_API_KEY; "
            "or set STIGMER_LLM_PROVIDER and STIGMER_LLM_MODEL; or start Ollama with a model that can call "
            "tools",
        )
    print_note(f"using the model {found} of the running Ollama")
    return found


def _has_same_settings(configuration: Configuration) -> bool:
    files = StackFiles(configuration)
    state = read_state(files.state)
    return state is not None and state.model_fingerprint == model_fingerprint(
        configuration, ensure_token(files.token)
    )
