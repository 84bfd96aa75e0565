"""Which versions go together."""

import pytest

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
