"""What an answer cost, by the price list that ships with genai-prices. Downloads nothing."""

from decimal import Decimal

from pydantic_ai.messages import ModelResponse
from pydantic_ai.models import Model
from pydantic_ai.usage import RequestUsage


def price_of(response: ModelResponse) -> Decimal | None:
    """US dollars; None where no price is known for the model, or the provider told no usage."""
    if response.model_name is None:
        return None
    try:
        return response.cost().total_price
    except (LookupError, ValueError):  # unknown model; missing usage, or counts that contradict each other
        return None


def has_price(model: Model) -> bool:
    """Whether a price is known for what the model is called, before it was asked."""
    tried = ModelResponse(
        [],
        usage=RequestUsage(input_tokens=1, output_tokens=1),
        model_name=model.model_name,
        provider_name=model.system,
    )
    return price_of(tried) is not None
