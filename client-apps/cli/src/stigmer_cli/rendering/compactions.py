"""What became of a conversation that outgrew its model's window, in one line."""

from pydantic import ValidationError

from stigmer_cli.rendering.quantities import format_count, plural
from stigmer_contract.compaction import Compaction, CompactionCause, WindowSource

_CAUSES = {
    CompactionCause.SIZE: "",
    CompactionCause.REFUSED: " after the provider refused it as too large",
    CompactionCause.ASKED: " as asked",
}


def describe_compaction(result: object) -> str:
    """`conversation compacted: 25.6k tokens, now 9.1k (12 results cleared)`."""
    try:
        done = Compaction.model_validate(result)
    except ValidationError:
        return "conversation compacted"
    if done.is_futile:
        size = format_count(done.tokens_before)
        return f"conversation not compacted, at {size} tokens: the summary was of no use ({done.problem})"
    what = [
        *([f"{plural(done.results_cleared, 'result')} cleared"] if done.results_cleared else []),
        *([f"{plural(done.messages_dropped, 'message')} replaced"] if done.messages_dropped else []),
        *([f"{plural(done.texts_cut, 'text')} cut"] if done.texts_cut else []),
        *([f"no summary: {done.problem}"] if done.problem else []),
    ]
    sizes = f"{format_count(done.tokens_before)} tokens, now {format_count(done.tokens_after)}"
    window = ""
    if done.window_source is WindowSource.ASSUMED:
        window = f"; a window of {format_count(done.window_tokens)} is assumed: set context.window"
    return f"conversation compacted{_CAUSES[done.cause]}: {sizes} ({', '.join(what)}){window}"
