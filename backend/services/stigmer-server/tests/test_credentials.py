"""The tokens that a server knows by heart, while it hears of other servers' from the database."""

from hypothesis import given
from hypothesis import strategies as st

from stigmer_contract.api import TokenScope
from stigmer_server.credentials import Credential, Credentials, digest_of

NAMES = ("one", "two", "three")


def credential(name: str) -> Credential:
    return Credential(f"id-{name}", name, TokenScope.USER, name)


def holders(credentials: Credentials) -> set[str]:
    return {name for name in NAMES if credentials.find(name) is not None}


@given(
    stored=st.sets(st.sampled_from(NAMES)),
    elsewhere=st.sets(st.sampled_from(NAMES)),
    changes=st.lists(st.tuples(st.sampled_from(["made", "revoked"]), st.sampled_from(NAMES))),
)
def test_what_changes_while_the_database_is_read_is_newer_than_what_it_held(
    stored: set[str], elsewhere: set[str], changes: list[tuple[str, str]]
) -> None:
    """A token that was just made was refused for seconds, and a revoked one taken again, on PostgreSQL."""
    credentials = Credentials("administrator", None)
    for name in stored:
        credentials.add(digest_of(name), credential(name))
    expected = set(elsewhere)

    with credentials.reload() as reload:
        found = {digest_of(name): credential(name) for name in elsewhere}
        for what, name in changes:
            if what == "made":
                credentials.add(digest_of(name), credential(name))
                expected.add(name)
            else:
                credentials.revoke(digest_of(name))
                expected.discard(name)
        reload.finish(found)

    assert holders(credentials) == expected


def test_a_stream_of_a_token_that_is_still_there_goes_on_after_a_reading() -> None:
    credentials = Credentials("administrator", None)
    held, gone = credential("one"), credential("two")
    credentials.add(digest_of("one"), held)
    credentials.add(digest_of("two"), gone)

    with credentials.reload() as reload:
        reload.finish({digest_of("one"): credential("one")})

    assert (held.holds, gone.holds) == (True, False)
