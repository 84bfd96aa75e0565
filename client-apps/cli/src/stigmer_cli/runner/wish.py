"""What flags said of how the runner shall run; kept, so that a restart need not be told again.

Settings are not kept: they are read anew at each start, and flags come before them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from stigmer_cli.config import Configuration, Verify, replace_file


@dataclass(frozen=True)
class RunnerWish:
    """What the command line says of how the runner shall run; by default nothing."""

    is_native: bool = False
    engine: str | None = None
    """`docker` or `podman`: this one, or an error."""
    use_local_image: bool = False
    local_reference: str | None = None
    """Which local build; None: that of this checkout."""
    image_archive: Path | None = None
    loaded_image: tuple[str, str] | None = None
    """Reference and id of what an earlier archive held; only ever kept, never said."""
    verify: Verify | None = None
    must_pull: bool = False
    is_quiet: bool = False

    @property
    def wants_container(self) -> bool:
        """Whether a plain process would not be what was asked for."""
        names_image = self.use_local_image or self.image_archive or self.loaded_image or self.must_pull
        return bool(self.engine or names_image)

    @property
    def flags(self) -> tuple[str, ...]:
        """As a person would say it."""
        loaded = f"--image-archive (which held {self.loaded_image[0]})" if self.loaded_image else None
        local = f"--use-local-image{f'={self.local_reference}' if self.local_reference else ''}"
        said = {
            "--native": self.is_native,
            f"--engine {self.engine}": self.engine,
            local: self.use_local_image,
            f"--image-archive {self.image_archive}": self.image_archive,
            loaded: loaded,
            f"--verify {self.verify}": self.verify,
        }
        return tuple(flag for flag, is_said in said.items() if flag and is_said)

    def changed_by(self, said: "RunnerWish") -> "RunnerWish":
        """This wish, where `said` says nothing else.

        A pull that is asked for is never verified less strictly because the last start was.
        """
        if said.is_native:
            return said
        kept = self if not (said.use_local_image or said.image_archive) else _without_image(self)
        is_loosened = said.must_pull and kept.verify == "off"
        return replace(
            said,
            is_native=kept.is_native and not said.wants_container,
            engine=said.engine or kept.engine,
            use_local_image=said.use_local_image or kept.use_local_image,
            local_reference=said.local_reference if said.use_local_image else kept.local_reference,
            loaded_image=kept.loaded_image,
            verify=said.verify or (None if is_loosened else kept.verify),
        )


def _without_image(wish: RunnerWish) -> RunnerWish:
    return replace(wish, use_local_image=False, local_reference=None, image_archive=None, loaded_image=None)


def kept_wish(configuration: Configuration) -> RunnerWish:
    """What the last start was told; nothing, where there is no record that this version understands."""
    try:
        document = cast("dict[str, Any]", json.loads(_file(configuration).read_text(encoding="utf-8")))
        loaded = document.pop("loaded_image")
        return RunnerWish(**document, loaded_image=None if loaded is None else (loaded[0], loaded[1]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return RunnerWish()


def wish_after_crash(
    configuration: Configuration, said: RunnerWish, report: Callable[[str], None]
) -> RunnerWish:
    """What holds after a stack that did not end in good order: what it was told, unless `said` differs."""
    wish = kept_wish(configuration).changed_by(said)
    if kept := [flag for flag in wish.flags if flag not in said.flags]:
        report(f"as the stack was started, which ended unexpectedly: {', '.join(kept)}")
    return wish


def keep_wish(configuration: Configuration, wish: RunnerWish, image: tuple[str, str] | None) -> None:
    """Keeps it for the next restart. `image`: reference and id of the one that runs, where one does.

    Raises:
        HomeUnusable: it cannot be written.
    """
    loaded = image if wish.image_archive is not None else wish.loaded_image
    kept = replace(wish, image_archive=None, loaded_image=loaded, must_pull=False, is_quiet=False)
    if kept == RunnerWish():
        _file(configuration).unlink(missing_ok=True)
        return
    passing = ("image_archive", "must_pull", "is_quiet")
    document = {name: value for name, value in asdict(kept).items() if name not in passing}
    replace_file(_file(configuration), json.dumps(document, indent=2) + "\n")


def _file(configuration: Configuration) -> Path:
    return configuration.run_directory / "runner-wish.json"
