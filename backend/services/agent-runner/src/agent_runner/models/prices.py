"""What an answer cost, by the price list that ships with genai-prices. Downloads nothing."""

from decimal import Decimal

from pydantic_ai.messages import ModelResponse


def price_of(response: ModelResponse) -> Decimal | None:
    """US dollars; None where no price is known for the model, or the provider told no usage."""
    if response.model_name is None:
        return None
    try:
        return response.cost().total_price
    except (LookupError, ValueError):  # unknown model; missing usage, or counts that contradict each other
        return None
