"""The real stack as a person has it: started by `stigmer server start`, kept by the supervisor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from stack_home import StackHome, end_everything, make_stack_home


class SupervisedStack:
    """Temporal, server and a native runner under the supervisor. A context manager."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        """Starts nothing yet; `environment` is the person's, besides what the home needs."""
        self.home: StackHome = make_stack_home(path, own_temporal=True, real_programs=True)
        self.home.environment |= dict(environment)
        self._client: httpx.Client | None = None

    @property
    def client(self) -> httpx.Client:
        """With the administrator's token."""
        assert self._client is not None
        return self._client

    @property
    def workspace_root(self) -> Path:
        """Where sessions get their directories."""
        return self.home.path / "data" / "workspace"

    def pid(self, component: str) -> int:
        """Of a component that runs."""
        pid: int | None = self.home.component(component)["pid"]
        assert pid is not None
        return pid

    def __enter__(self) -> Self:
        try:
            self.home.start()
            token = (self.home.path / "run" / "token").read_text(encoding="ascii").strip()
            self._client = httpx.Client(
                base_url=f"http://127.0.0.1:{self.home.ports['server']}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            )
        except BaseException:
            end_everything(self.home)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()
        end_everything(self.home)
