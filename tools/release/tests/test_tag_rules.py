"""The tags of an image: a table of events, and properties that hold for all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmer_release.errors import WrongVersion
from stigmer_release.tag_rules import PullRequest, PushedByHand, PushToMain, TagPushed, image_tags
from stigmer_release.versions import Stage, Version, versions_among

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("pushed", "released", "fixed", "moving"),
    [
        ("1.2.3", [], "v1.2.3 1.2.3", "1.2 1 latest"),
        ("1.2.4", ["1.2.3"], "v1.2.4 1.2.4", "1.2 1 latest"),
        ("1.3.0", ["1.2.3"], "v1.3.0 1.3.0", "1.3 1 latest"),
        ("2.0.0", ["1.2.3", "1.3.0"], "v2.0.0 2.0.0", "2.0 2 latest"),
        # A patch of an old line: what is ahead of it stays where it is.
        ("1.2.4", ["1.2.3", "1.3.0"], "v1.2.4 1.2.4", "1.2"),
        ("1.3.1", ["1.3.0", "2.0.0"], "v1.3.1 1.3.1", "1.3 1"),
        ("1.2.4", ["1.2.3", "1.3.0", "2.0.0"], "v1.2.4 1.2.4", "1.2"),
        ("0.9.9", ["0.9.8", "0.10.0"], "v0.9.9 0.9.9", "0.9"),
        # One that was left out in its own line.
        ("1.2.3", ["1.2.4"], "v1.2.3 1.2.3", ""),
        # A pre-release takes no moving tag, and is in nobody's way.
        ("2.0.0-rc.1", ["1.2.3"], "v2.0.0-rc.1 2.0.0-rc.1", ""),
        ("2.0.0-rc.1", [], "v2.0.0-rc.1 2.0.0-rc.1", ""),
        ("1.2.4", ["1.2.3", "2.0.0-rc.1"], "v1.2.4 1.2.4", "1.2 1 latest"),
        ("1.2.3", ["1.2.3-rc.2"], "v1.2.3 1.2.3", "1.2 1 latest"),
        # A re-run, alone and after another has been released in between.
        ("1.2.3", ["1.2.3"], "v1.2.3 1.2.3", "1.2 1 latest"),
        ("1.2.3", ["1.2.3", "1.2.4"], "v1.2.3 1.2.3", ""),
    ],
)
def test_a_version_takes_the_tags_that_are_its_own(
    pushed: str, released: list[str], fixed: str, moving: str
) -> None:
    tags = image_tags(TagPushed(Version.parse(pushed)), versions_among(released))
    by_hand = image_tags(PushedByHand(Version.parse(pushed)), versions_among(released))

    assert (" ".join(tags.fixed), " ".join(tags.moving)) == (fixed, moving)
    assert (by_hand.fixed, by_hand.moving) == ((pushed,), tags.moving)


def test_a_pull_request_takes_no_tag_and_main_only_development_tags() -> None:
    released = versions_among(["1.2.3"])

    assert image_tags(PullRequest(), released).all == ()
    assert image_tags(PushToMain(COMMIT), released).all == ("dev-0123456789ab", "main")


def test_of_a_release_moving_tags_wait_for_its_packages_and_main_has_none_to_wait_for() -> None:
    release, main = TagPushed(Version.parse("1.2.3")), PushToMain(COMMIT)

    assert image_tags(release, frozenset()).before_packages(release) == ("v1.2.3", "1.2.3")
    assert image_tags(main, frozenset()).before_packages(main) == ("dev-0123456789ab", "main")


VERSIONS = st.builds(
    Version,
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(Stage),
    st.just(1),
).map(lambda v: v if not v.is_release else Version(v.major, v.minor, v.patch))


@given(st.lists(VERSIONS, unique=True, max_size=12))
def test_moving_tags_are_always_on_the_newest_of_their_line_in_whatever_order_versions_are_released(
    order: list[Version],
) -> None:
    on: dict[str, Version] = {}
    for count, version in enumerate(order):
        tags = image_tags(TagPushed(version), order[:count])
        again = image_tags(TagPushed(version), order[: count + 1])
        assert tags == again
        on |= dict.fromkeys(tags.all, version)

    releases = [version for version in order if version.is_release]
    assert on.get("latest") == max(releases, default=None)
    for version in releases:
        line = [one for one in releases if (one.major, one.minor) == (version.major, version.minor)]
        assert on[f"{version.major}.{version.minor}"] == max(line)
        assert on[str(version.major)] == max(one for one in releases if one.major == version.major)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("v1.2.3", "write it without the v: 1.2.3"),
        ("1.2", "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"),
        ("1.2.3rc1", "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"),
        ("1.2.3-rc1", "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"),
        ("01.2.3", "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"),
        ("1.2.3+build", "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"),
        ("", "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"),
    ],
)
def test_what_is_no_version_is_refused_with_what_would_be_right(text: str, hint: str) -> None:
    with pytest.raises(WrongVersion) as refused:
        Version.parse(text)
    assert (refused.value.message, refused.value.hint) == (f"{text!r} is no version", hint)


def test_a_version_is_spelled_as_git_images_and_packages_spell_it() -> None:
    version = Version.parse("1.2.0-rc.1")

    assert (version.git_tag, str(version), version.of_package) == ("v1.2.0-rc.1", "1.2.0-rc.1", "1.2.0rc1")
    ascending = ["1.2.0-alpha.2", "1.2.0-beta.1", "1.2.0-rc.1", "1.2.0-rc.10", "1.2.0", "1.2.1", "1.10.0"]
    assert sorted(versions_among(ascending)) == [Version.parse(text) for text in ascending]
