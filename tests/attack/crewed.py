"""What a tenant has of agents: one of each thing, and how they are tied."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from httpx import AsyncClient

import polyplane as pp

AGENTS: Final = "/api/v1/agents"
WORDS: Final = {"capability": "drill", "type": "feeds"}
"""Parts of paths that are the same in every tenant."""
FILE: Final = {"path": "/srv/x.md", "title": "x", "digest": "0" * 32}
"""What anybody may have learned, in place of what a document would have one make up."""
LISTS: Final = ("agents", "tools", "discussions", "concepts", "operations")


async def fill_agents(
    plane: pp.Plane, http: AsyncClient, headers: dict[str, str], canary: str
) -> dict[str, str]:
    """An agent with a tool, a discussion, two concepts that relate, an operation that is over; the
    ids by the names of the parameters that take them.
    """

    async def ask(method: str, path: str, body: Any = None) -> Any:
        answer = await http.request(method, f"{AGENTS}/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    named = f"Agent {canary}"
    agent = (await ask("POST", "agents", {"name": named, "type": canary}))["id"]
    drill = {"name": named, "capability": WORDS["capability"]}
    tool = (await ask("POST", "tools", drill))["id"]
    talk = (await ask("POST", "discussions", {"title": named}))["id"]
    concept, target = [
        (await ask("POST", "concepts", {"name": named, "category": "x"}))["id"] for _ in range(2)
    ]
    await ask("PUT", f"agents/{agent}/tools/{tool}")
    await ask("PUT", f"discussions/{talk}/agents/{agent}")
    await ask("PUT", f"concepts/{concept}/discussions/{talk}")
    await ask("PUT", f"concepts/{concept}/related/{target}/{WORDS['type']}", {"strength": 0.5})
    step = {"tool_id": tool, "name": named}
    asked = {"agent_id": agent, "type": "x", "context": {"why": canary}, "steps": [step]}
    operation = await ask("POST", "operations", asked)
    await plane.sagas.finished(UUID(operation["saga_id"]))
    return {
        "agent_id": agent,
        "tool_id": tool,
        "discussion_id": talk,
        "concept_id": concept,
        "target_id": target,
        "operation_id": operation["id"],
    }
