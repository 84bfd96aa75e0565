"""Snapshots of the workspace: what its files were after each step that may have changed them.

`tree_walk` finds what is there, `tree_watch` which of it has to be looked at again, `taking` turns what has
changed into blobs, and `around_steps` says when. Of blobs and logs they know only how to hand something over;
the form of a snapshot is the contract's.
"""

from agent_runner.snapshots.around_steps import StepSnapshots, bring
from agent_runner.snapshots.taking import WATCHED_FROM, SnapshotTaker, Taken
from agent_runner.snapshots.tree_walk import TooMuch, WalkRules

__all__ = ["WATCHED_FROM", "SnapshotTaker", "StepSnapshots", "Taken", "TooMuch", "WalkRules", "bring"]
