"""What the isolation of commands here means for those to come: whether they are run, and what is said of it.

How it is found out is `stigmer_isolation.self_test`'s matter.
"""

import logging
from dataclasses import dataclass
from typing import Any

from stigmer_contract.isolation_words import IsolationSetting
from stigmer_isolation.self_test import IsolationLevel, SelfTest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Isolation:
    """What the self-test found, and what was asked for."""

    found: SelfTest
    setting: IsolationSetting

    @property
    def level(self) -> IsolationLevel:
        """How well commands are isolated."""
        return self.found.level

    @property
    def refusal(self) -> str | None:
        """Why commands are not run, and what to do about it; None: they are."""
        if self.setting != "require" or self.found.is_enough:
            return None
        return (
            "commands are refused: STIGMER_ISOLATION is `require`, and isolation on this machine is "
            f"`{self.level}` ({self._because()}). Run the runner on Linux 5.13 or newer with Landlock turned "
            "on, or accept the risk with STIGMER_ISOLATION=warn"
        )

    @property
    def warning(self) -> str | None:
        """What a person has to know about each command; None: nothing."""
        if self.found.is_enough:
            return None
        if self.setting == "off":
            return "Shell commands run WITHOUT isolation, because STIGMER_ISOLATION is `off`."
        return (
            f"Shell commands run WITHOUT sufficient isolation on this machine (level `{self.level}`: "
            f"{self._because()}). They can read your files and keys. Use the container image, or set "
            "STIGMER_ISOLATION=require to refuse commands."
        )

    def log(self) -> None:
        """Say it in one line, loudly where something has to be known."""
        because = self.found.no_bubblewrap_because
        bubblewrap = "in bubblewrap" if because is None else f"without bubblewrap ({because})"
        if self.warning is None:
            logger.info("isolation of commands: %s, %s", self.level, bubblewrap)
        else:
            logger.warning(
                "isolation of commands: %s, %s. %s", self.level, bubblewrap, self.refusal or self.warning
            )

    def to_json(self) -> dict[str, Any]:
        """As the contract's `IsolationState`."""
        return {
            "level": self.level.value,
            "setting": self.setting,
            "findings": list(self.found.findings),
            "bubblewrap": self.found.no_bubblewrap_because is None,
            "no_bubblewrap_because": self.found.no_bubblewrap_because,
        }

    def _because(self) -> str:
        return "; ".join(self.found.findings) or "no reason found"
