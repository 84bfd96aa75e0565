"""Writes an example's cassette: the results of its tool calls anew, or a whole conversation with a model.

Without `--model` the turns of the present cassette are played without comparing, and the results that the
tools give now become what it expects; a `resultMatches` that still matches is kept.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from run import EXAMPLES, copy_of_input, find_stigmer, run_arguments

from stigmer_contract.cassette import (
    Cassette,
    Expectation,
    ExpectedResult,
    Turn,
    dump_cassette,
    load_cassette,
)


def main() -> int:
    """Parse the arguments, run the example with `--record`, write its cassette."""
    parser = argparse.ArgumentParser(description="Record an example's cassette.")
    parser.add_argument("example", help="folder name of the example")
    parser.add_argument("--model", help="provider:name to record a new conversation with")
    options = parser.parse_args()
    example: str = options.example
    cassette_file = EXAMPLES / example / "cassette.yaml"
    with tempfile.TemporaryDirectory() as folder:
        recorded_file = Path(folder, "recorded.yaml")
        model: str | None = options.model
        if model is None:
            loose_file = Path(folder, "loose.yaml")
            loose_file.write_text(dump_cassette(_without_results(_read(cassette_file))), encoding="utf-8")
            model = f"replay:{loose_file}"
        arguments = run_arguments(example, copy_of_input(example), model)
        subprocess.run([find_stigmer() or "stigmer", *arguments, "--record", str(recorded_file)], check=True)
        recorded = _read(recorded_file)
    if options.model is None:
        recorded = _with_results_of(_read(cassette_file), recorded)
    cassette_file.write_text(dump_cassette(recorded), encoding="utf-8")
    return 0


def _read(file: Path) -> Cassette:
    return load_cassette(file.read_text(encoding="utf-8"))


def _without_results(cassette: Cassette) -> Cassette:
    turns = [
        turn.model_copy(update={"expect": None, "delay_seconds": 0.0})
        if turn.expect is not None and turn.expect.results is not None
        else turn
        for turn in cassette.turns
    ]
    return cassette.model_copy(update={"turns": turns})


def _with_results_of(cassette: Cassette, recorded: Cassette) -> Cassette:
    """The turns of `cassette`, expecting what `recorded` saw."""
    turns: list[Turn] = []
    for old, new in zip(cassette.turns, recorded.turns, strict=True):
        seen = None if new.expect is None else new.expect.results
        if seen is not None:
            before = (old.expect.results if old.expect is not None else None) or []
            patterns = dict(enumerate(result.result_matches for result in before))
            results = [_expected(result, patterns.get(place)) for place, result in enumerate(seen)]
            turns.append(old.model_copy(update={"expect": Expectation(results=results)}))
        else:
            turns.append(old)
    return cassette.model_copy(update={"turns": turns})


def _expected(seen: ExpectedResult, pattern: str | None) -> ExpectedResult:
    if pattern is None:
        return seen
    if re.search(pattern, str(seen.result), re.DOTALL) is None:
        raise SystemExit(f"error: {seen.tool} gave {seen.result!r}, which {pattern!r} does not match")
    return ExpectedResult(tool=seen.tool, result_matches=pattern)


if __name__ == "__main__":
    sys.exit(main())
