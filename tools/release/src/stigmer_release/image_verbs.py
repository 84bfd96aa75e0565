"""The verbs that build an image, say what it is, push it and give it its tags."""

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import click

from stigmer_cli.containers.credentials import find_credentials
from stigmer_release import vulnerabilities
from stigmer_release.base_images import base_images, digests
from stigmer_release.building import build_image, summary
from stigmer_release.evidence import Build, bill_of_materials, licence_list, provenance
from stigmer_release.git import Checkout
from stigmer_release.image_files import ImageFiles, push_images
from stigmer_release.inherited import inherited_parts
from stigmer_release.output import say
from stigmer_release.plan import Trigger, event_of, outputs
from stigmer_release.promotion import planned_tags
from stigmer_release.promotion import promote as set_tags
from stigmer_release.promotion import tags_by_hand as plan_by_hand
from stigmer_release.published_images import PUBLISHED_IMAGES, ImageName, PublishedImage
from stigmer_release.registry import Repository, open_repository
from stigmer_release.signing import sign_image
from stigmer_release.smoke import try_image
from stigmer_release.versions import Version

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])
DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
NEW_FILE = click.Path(path_type=Path, dir_okay=False)

repository_option = click.option("--repository", required=True, help="Such as ghcr.io/stigmer/agent-runner.")


def _look_up(_context: click.Context, _option: click.Parameter, name: str) -> PublishedImage:
    return PUBLISHED_IMAGES[ImageName(name)]


image_option = click.option(
    "--image",
    "published",
    type=click.Choice([name.value for name in ImageName]),
    default=ImageName.RUNNER.value,
    callback=_look_up,
    help="Which of the published images.",
)
digest_option = click.option("--digest", required=True, help="Of the index: sha256:…")


def event_options(function: FunctionT) -> FunctionT:
    """Why the workflow runs; GitHub's variables say it."""
    for option in (
        click.option("--tag", default="", help="Of a run by hand: pretend that this tag was pushed."),
        click.option("--commit", required=True, envvar="GITHUB_SHA"),
        click.option("--ref", required=True, envvar="GITHUB_REF"),
        click.option("--event", "event_name", required=True, envvar="GITHUB_EVENT_NAME"),
    ):
        function = option(function)
    return function


@contextmanager
def _opened(name: str) -> Generator[Repository]:
    user, password = os.environ.get("REGISTRY_USER"), os.environ.get("REGISTRY_PASSWORD")
    login = (user, password) if user and password else None
    if login is None and (found := find_credentials(name.partition("/")[0], os.environ)) is not None:
        login = (found.username, found.password)
    with open_repository(name, login) as repository:
        yield repository


@click.command()
@repository_option
@event_options
def plan(repository: str, event_name: str, ref: str, commit: str, tag: str) -> None:
    """Print what the run does, as NAME=VALUE lines for later jobs."""
    trigger = Trigger(event_name, ref, commit, tag)
    with _opened(repository) as opened:
        tags = planned_tags(opened, event_of(trigger))
    for name, value in outputs(trigger, tags, base_images(Path.cwd(), os.environ)).items():
        print(f"{name}={value}")


@click.command()
@click.option("--platform", required=True, type=click.Choice(["linux/amd64", "linux/arm64"]))
@click.option("--version", required=True)
@image_option
@click.argument("output", type=click.Path(path_type=Path, file_okay=False))
def build(platform: str, version: str, published: PublishedImage, output: Path) -> None:
    """Build HEAD's image for one platform into the directory OUTPUT."""
    print(summary(build_image(Checkout(Path.cwd()), published, platform, version, output)))


@click.command()
@image_option
@click.argument("image", type=DIRECTORY)
@click.argument("output", type=NEW_FILE)
def sbom(published: PublishedImage, image: Path, output: Path) -> None:
    """Write the parts of the image in directory IMAGE to OUTPUT, as CycloneDX."""
    bill = bill_of_materials(ImageFiles(image), published.repository)
    output.write_text(json.dumps(bill, indent=1), encoding="utf-8")
    say(f"{len(bill['components'])} parts are in {output}")


@click.command()
@click.argument("bills", type=FILE, nargs=-1, required=True)
def licences(bills: tuple[Path, ...]) -> None:
    """Print the licences of all parts of the SBOMs."""
    print(licence_list([json.loads(bill.read_text("utf-8")) for bill in bills]), end="")


@click.command()
@click.option("--allow", required=True, type=FILE, help="The allow list.")
@click.option("--base", help="Of a pull request: the revision before it, whose own holes do not count.")
@click.argument("reports", type=FILE, nargs=-1, required=True)
def gate(allow: Path, base: str | None, reports: tuple[Path, ...]) -> None:
    """Fail where grype's REPORTS have fixable high findings that the allow list does not excuse."""
    allowances = vulnerabilities.read_allow_list(allow, date.today())  # noqa: DTZ011  # the list has days
    findings = [finding for report in reports for finding in vulnerabilities.read_findings(report)]
    inherited = None if base is None else inherited_parts(Checkout(Path.cwd()), base)
    for line in vulnerabilities.check(findings, allowances, inherited):
        say(line)


@click.command("provenance")
@click.option("--source", required=True, help="URL of the repository.")
@click.option("--commit", required=True, envvar="GITHUB_SHA")
@click.option("--ref", required=True, envvar="GITHUB_REF")
@click.option("--workflow", required=True, help="Its path in the repository.")
@click.option("--run", required=True, help="URL of the run.")
@click.option("--started", required=True, help="RFC 3339.")
@click.option("--version", required=True)
@click.argument("output", type=NEW_FILE)
def write_provenance(
    source: str, commit: str, ref: str, workflow: str, run: str, started: str, version: str, output: Path
) -> None:
    """Write the SLSA provenance of HEAD's image to OUTPUT."""
    root = Path.cwd()
    built = Build(
        source=source,
        commit=commit,
        ref=ref,
        workflow=workflow,
        run=run,
        started=started,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        base_images=digests(base_images(root, os.environ)),
        parameters={"VERSION": version, "SOURCE_DATE_EPOCH": str(Checkout(root).commit_time())},
    )
    output.write_text(json.dumps(provenance(built), indent=1), encoding="utf-8")


@click.command()
@repository_option
@click.argument("images", type=DIRECTORY, nargs=-1, required=True)
def push(repository: str, images: tuple[Path, ...]) -> None:
    """Push IMAGES and their index by digest, without a tag; print the index's digest."""
    with _opened(repository) as opened:
        index = push_images(opened, [ImageFiles(image) for image in images])
    print(index.digest)


@click.command()
@repository_option
@digest_option
@click.option("--platform", required=True, type=click.Choice(["linux/amd64", "linux/arm64"]))
@click.option("--engine", default="docker", type=click.Choice(["docker", "podman"]))
@image_option
def smoke(repository: str, digest: str, platform: str, engine: str, published: PublishedImage) -> None:
    """Pull what was pushed and run one agent with it, to its end."""
    with _opened(repository) as opened:
        try_image(opened, published, digest, platform, engine, Path.cwd(), say)


@click.command()
@repository_option
@digest_option
@click.option("--provenance", required=True, type=FILE)
@click.argument("bills", type=FILE, nargs=-1, required=True)
def sign(repository: str, digest: str, provenance: Path, bills: tuple[Path, ...]) -> None:
    """Sign the image, its provenance and its SBOMs with cosign."""
    sign_image(f"{repository}@{digest}", provenance, list(bills))
    say(f"{repository}@{digest} is signed, with its provenance and {len(bills)} SBOMs")


@click.command("tags-by-hand")
@repository_option
@click.option("--image-id", "image_ids", multiple=True, help="Of the engine's image, sha256:…")
@click.argument("version")
def tags_by_hand(repository: str, image_ids: tuple[str, ...], version: str) -> None:
    """Print the tags that an engine is to push VERSION under, one a line; the last one moves last."""
    with _opened(repository) as opened:
        tags = plan_by_hand(opened, Version.parse(version), image_ids)
    for tag in tags.all:
        print(tag)


@click.command()
@repository_option
@digest_option
@event_options
@image_option
@click.option(
    "--packages-are-published", is_flag=True, help="Of a release: also X.Y, X and latest, which move to it."
)
def promote(
    repository: str,
    digest: str,
    event_name: str,
    ref: str,
    commit: str,
    tag: str,
    published: PublishedImage,
    packages_are_published: bool,
) -> None:
    """Give the pushed image the tags of its event."""
    event = event_of(Trigger(event_name, ref, commit, tag))
    with _opened(repository) as opened:
        set_tags(opened, published, event, digest, say, are_packages_published=packages_are_published)
