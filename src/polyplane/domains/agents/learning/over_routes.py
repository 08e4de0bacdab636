"""Learning by a program that reads files where it is, and sends what it finds over the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import polyplane as pp
from polyplane.domains.agents.learning.course import LearnReport, Tell, learn_into
from polyplane.domains.agents.learning.keeping import Kept
from polyplane.domains.agents.learning.merging import LearnedFile
from polyplane.domains.agents.learning.wire import FoundFile

PAGE_FILES: Final = 5_000


class Call(Protocol):
    """Asks a route below `/api/v1/`."""

    async def __call__(self, method: str, path: str, **given: Any) -> Any:
        """What it answers; `parameters` of the query, `json`, `headers`. Raises its problem."""
        ...


class OverRoutes:
    """Knowledge of a tenant, behind the routes of the application."""

    def __init__(self, call: Call, tenant: str) -> None:
        self._call = call
        self._headers = {"X-Tenant": tenant}

    async def known(self, path: str) -> Mapping[str, str]:
        """See `Knowledge`."""
        found: dict[str, str] = {}
        after: str | None = ""
        while after is not None:
            asked = {"path": path, "after": after, "limit": PAGE_FILES}
            page = await self._get("agents/learned", asked)
            found.update((it["path"], it["digest"]) for it in page["files"])
            after = page["next"]
        return found

    async def take(self, files: Sequence[LearnedFile]) -> Kept:
        """See `Knowledge`."""
        sent = {"files": [FoundFile.of(it) for it in files]}
        answer = await self._call("POST", "agents/learned", json=sent, headers=self._headers)
        token = answer["token"]
        return Kept(answer["touched"], pp.Token.parse(token) if token else None)

    async def totals(self) -> tuple[int, int]:
        """See `Knowledge`."""
        found = await self._get("agents/knowledge", {})
        return found["concepts"], found["relations"]

    async def _get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        asked = {name: value for name, value in parameters.items() if value != ""}
        return await self._call("GET", path, parameters=asked, headers=self._headers)


async def learn_over(
    call: Call, tenant: str, paths: Sequence[Path], *, tell: Tell | None = None
) -> LearnReport:
    """As `learn`, for who has only the routes: files are read here, knowledge is kept there."""
    return await learn_into(OverRoutes(call, tenant), paths, tell=tell)
