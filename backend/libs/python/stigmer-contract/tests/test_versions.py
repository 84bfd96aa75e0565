"""Which versions go together."""

import pytest

from stigmer_contract.builds import contract_build, find_other_build
from stigmer_contract.versions import is_compatible


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        ("0.1.0", "0.1.7", True),
        ("0.1.0", "0.2.0", False),
        ("1.2.0", "1.5.1", True),
        ("1.2.0", "2.0.0", False),
        ("0.1.0", "dev-local", True),
    ],
)
def test_versions_that_go_together(ours: str, theirs: str, fits: bool) -> None:
    assert is_compatible(ours, theirs) is fits
    assert is_compatible(theirs, ours) is fits


def test_builds_of_one_version_are_told_apart_and_those_of_two_versions_are_not_compared() -> None:
    own = contract_build()
    assert len(own) == 12
    for of_server in ((None, None), ("0.1.0", None), ("0.1.0", own), ("0.2.0", "0" * 12)):
        assert find_other_build("0.1.0", of_server) is None, of_server
    told = find_other_build("0.1.0", ("0.1.0", "0" * 12))
    assert told is not None
    assert told.startswith(f"the server ({'0' * 12}) is another build of 0.1.0 than the runner ({own})")
