"""`stigmer test` gives an execution its time where what it waits for comes by itself."""

import pytest

from stigmer_cli.commands.testing import waits_for_person
from stigmer_contract.waits import WaitKind, WaitReason


@pytest.mark.parametrize("kind", WaitKind)
def test_only_a_decision_and_an_answer_are_a_persons(kind: WaitKind) -> None:
    reasons = [WaitReason(kind=WaitKind.TIME), WaitReason(kind=kind)]
    assert waits_for_person(reasons) is (kind in {WaitKind.APPROVAL, WaitKind.ANSWER})
