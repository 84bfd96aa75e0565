"""Language models: which one an execution uses, how it is asked, what its failures mean, what it costs.

Nothing in here retries: one place does, the journal.
"""

from agent_runner.models.answer_builder import AnswerKind
from agent_runner.models.asking import Watcher
from agent_runner.models.context_windows import ContextWindows, Window
from agent_runner.models.cut_answers import CutAnswers
from agent_runner.models.file_inputs import takes_file
from agent_runner.models.model_faults import ModelFault, Retry, backoff_seconds, classify_fault
from agent_runner.models.model_pool import BuiltModel, ModelPool
from agent_runner.models.notes import file_note, read_cut, read_message, read_note, standing_note, told_in
from agent_runner.models.preloading import preload_providers
from agent_runner.models.prices import has_price, price_of
from agent_runner.models.replay import ReplayModel
from agent_runner.models.request_settings import model_settings
from agent_runner.models.shown_answers import ShownAnswers
from agent_runner.models.structured_answers import MAX_CORRECTIONS, StructuredAnswers
from agent_runner.models.unusable_answers import describe_unusable
from agent_runner.models.usage_reports import ESTIMATED, estimated_usage

__all__ = [
    "ESTIMATED",
    "MAX_CORRECTIONS",
    "AnswerKind",
    "BuiltModel",
    "ContextWindows",
    "CutAnswers",
    "ModelFault",
    "ModelPool",
    "ReplayModel",
    "Retry",
    "ShownAnswers",
    "StructuredAnswers",
    "Watcher",
    "Window",
    "backoff_seconds",
    "classify_fault",
    "describe_unusable",
    "estimated_usage",
    "file_note",
    "has_price",
    "model_settings",
    "preload_providers",
    "price_of",
    "read_cut",
    "read_message",
    "read_note",
    "standing_note",
    "takes_file",
    "told_in",
]
