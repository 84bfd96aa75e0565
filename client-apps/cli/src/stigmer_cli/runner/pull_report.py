"""Pulls the runner's image and shows how it goes: a bar on a terminal, plain lines elsewhere.

A broken connection is tried again; layers that have arrived stay. How to pull is the engine's concern.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Engine, Image, ImageReference
from stigmer_cli.containers.credentials import Credentials, find_credentials
from stigmer_cli.containers.errors import EngineGone, ImageError, RateLimited, RegistryUnreachable
from stigmer_cli.containers.pulling import DownloadSeen, PullEvent, PullProgress
from stigmer_cli.containers.registry import RemoteImage, describe_image
from stigmer_cli.runner.resolution import check_labels
from stigmer_cli.runner.verification import verify_image, verify_present

if TYPE_CHECKING:
    from rich.progress import TaskID

MAX_TRIES = 5
ASKED_FOR_SECONDS = 10.0
"""How long a registry is waited for that tells how large the image is."""
LOOK_SECONDS = 2.0
"""The same, where all that depends on it is what a person is told."""
_FIRST_PAUSE_SECONDS = 0.5
_LINE_SECONDS = 5.0
_LINE_SHARE = 0.1
"""A plain line says something new each tenth, or when so many seconds have passed."""


class _Display(Protocol):
    def show(self, progress: PullProgress) -> None: ...

    def close(self) -> None: ...


class ImagePuller:
    """Pulls images for one command; use it as `Bringer` of `resolution`."""

    def __init__(
        self,
        configuration: Configuration,
        report: Callable[[str], None],
        *,
        is_quiet: bool = False,
        is_optional: bool = False,
    ) -> None:
        """`is_optional`: where the registry does not give the image, the engine is not asked to try."""
        self._configuration = configuration
        self._report = report
        self._is_quiet = is_quiet
        self._is_optional = is_optional
        self._is_told_slow = False

    def __call__(self, engine: Engine, reference: ImageReference) -> Image:
        """Pulls it.

        Raises:
            ImageError: its subclass tells the reason; a broken connection was tried again before.
            ImageUntrusted: it is not signed as `runner.verify` demands.
            ImageIncompatible: it says that it is of another version, or no runner.
        """
        credentials = find_credentials(reference.registry, self._configuration.environment)
        told = self._ask(reference, engine.traits.architecture, credentials)
        if told.labels is not None:
            check_labels(str(reference), told.labels)
        sizes = told.layer_bytes
        if not self._is_quiet:
            size = f" ({_megabytes(sum(sizes.values()))})" if sizes else ""
            self._report(f"pulling the runner's image {reference}{size} with {engine.traits.title}")
        reference = self._verify(reference, credentials)
        progress = PullProgress(dict(sizes))
        for attempt in range(1, MAX_TRIES + 1):
            display = self._open_display()

            def take(event: PullEvent | DownloadSeen, display: _Display = display) -> None:
                progress.add(event)
                display.show(progress)

            try:
                image = engine.images.pull(reference, take, credentials)
                is_verified = reference.digest is not None and reference.tag is not None
                return engine.images.add_tag(image, reference) if is_verified else image
            except (RegistryUnreachable, EngineGone) as error:
                # Where nothing has come, nothing was cut: trying again would only keep the person waiting.
                if attempt == MAX_TRIES or not progress.has_begun:
                    raise
                display.close()
                if not self._is_quiet:
                    self._report(
                        f"the connection broke, trying again ({attempt + 1} of {MAX_TRIES}): {error}"
                    )
                time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
            finally:
                display.close()
        raise AssertionError("the last try returns or raises")

    def verify_present(self, reference: ImageReference, digests: Sequence[str]) -> None:
        """Verifies an image that is here.

        Raises:
            ImageUntrusted: it is not signed as `runner.verify` demands.
            ImageError: its registry does not tell.
        """
        credentials = find_credentials(reference.registry, self._configuration.environment)
        found = verify_present(reference, digests, self._configuration, credentials)
        if not self._is_quiet:
            self._report(found.said)

    def _verify(self, reference: ImageReference, credentials: Credentials | None) -> ImageReference:
        """With the digest that was verified, so that nothing else is pulled."""
        found = verify_image(reference, self._configuration, credentials)
        if not self._is_quiet:
            self._report(found.said)
        return found.reference

    def _ask(
        self, reference: ImageReference, architecture: str, credentials: Credentials | None
    ) -> RemoteImage:
        def tell_slow() -> None:
            if not (self._is_quiet or self._is_told_slow):
                self._is_told_slow = True
                self._report(f"the registry {reference.registry} is slow to answer")

        authorities = self._configuration.ca_bundle
        try:
            return describe_image(
                reference, architecture, credentials, ASKED_FOR_SECONDS, authorities, tell_slow
            )
        except RateLimited:  # it limits the engine, too, which would try for a minute (Podman 4.3)
            raise
        except ImageError:  # the engine may know another way: a mirror, a proxy, a login of its own
            if self._is_optional:
                raise
            return RemoteImage({}, None)

    def _open_display(self) -> _Display:
        from stigmer_cli.output import is_terminal

        if self._is_quiet:
            return _Silence()
        return _Bars() if is_terminal(sys.stderr) else _Lines(self._report)


class _Silence:
    def show(self, progress: PullProgress) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Has nothing to close."""


class _Lines:
    """A line each tenth."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._shown_share = 0.0
        self._shown_at = self._started_at = time.monotonic()

    def show(self, progress: PullProgress) -> None:
        total, done = progress.total_bytes, progress.done_bytes
        if not total:
            return
        share, now = done / total, time.monotonic()
        is_due = share >= self._shown_share + _LINE_SHARE or now - self._shown_at >= _LINE_SECONDS
        if not is_due or share <= self._shown_share:
            return
        self._shown_share, self._shown_at = share, now
        speed = done / max(now - self._started_at, 0.001)
        left = f", {(total - done) / speed:.0f} s left" if done < total and speed else ""
        self._report(f"{_megabytes(done)} of {_megabytes(total)} ({share:.0%}), {_megabytes(speed)}/s{left}")

    def close(self) -> None:
        """Has nothing to close."""


class _Bars:
    """A bar for the whole image and one for each layer that is on its way."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        from stigmer_cli.output import stderr

        self._progress: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=stderr(),
            transient=True,
        )
        self._progress.start()
        self._total: TaskID = self._progress.add_task("image", total=None)
        self._layers: dict[str, TaskID] = {}

    def show(self, progress: PullProgress) -> None:
        self._progress.update(self._total, completed=progress.done_bytes, total=progress.total_bytes)
        for layer, (done, total) in progress.layers.items():
            is_on_its_way = total is not None and 0 < done < total
            if is_on_its_way and layer not in self._layers:
                self._layers[layer] = self._progress.add_task(f"  {layer}", total=total)
            if layer in self._layers:
                self._progress.update(self._layers[layer], completed=done, visible=is_on_its_way)

    def close(self) -> None:
        self._progress.stop()


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
