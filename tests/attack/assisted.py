"""What a tenant has of the assistant's other truth: one of each thing."""

from __future__ import annotations

from typing import Any, Final

from httpx import AsyncClient

from polyplane.providers import OAuthProvider

ASSISTANT: Final = "/api/v1/assistant"
KEYS: Final = {"key": "answers.tone", "kind": "calendar"}
"""Parts of paths that are the same in every tenant."""
OAUTH: Final = {
    "example": OAuthProvider(
        authorization_url="http://127.0.0.1:9/authorize",
        token_url="http://127.0.0.1:9/token",
        redirect_url="http://127.0.0.1:9/back",
        client_id="attack",
    )
}
"""A provider that nobody asks: what is kept there holds for an hour."""
THINGS: Final = (
    "profiles",
    "oauth/tokens",
    "integrations",
    "tasks",
    "threads",
    "messages",
    "calendar/events",
    "accounts",
    "transactions",
    "configuration",
    "model-outputs",
)
ON: Final = "2026-01-01T12:00:00Z"
"""When the attack asks for."""


async def fill_matters(http: AsyncClient, headers: dict[str, str], canary: str) -> dict[str, str]:
    """One of each; the ids by the names of the parameters that take them."""

    async def ask(method: str, path: str, body: Any = None) -> Any:
        answer = await http.request(method, f"{ASSISTANT}/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    named = f"Matter {canary}"
    profile = await ask("POST", "profiles", {"display_name": named})
    brought = {"provider": "example", "account": canary, "expires_s": 3600}
    brought |= {"access_token": canary, "refresh_token": canary}
    token = await ask("POST", "oauth/tokens", brought)
    await ask("PUT", f"integrations/{KEYS['kind']}", {"credentials": {"key": canary}})
    task = await ask("POST", "tasks", {"title": named})
    thread = await ask("POST", "threads", {"channel": "chat", "subject": named})
    message = {"sender": named, "body": named}
    said = await ask("POST", f"threads/{thread['id']}/messages", message)
    event = {"title": named, "starts_at": ON, "ends_at": ON, "recurrence": "FREQ=DAILY"}
    daily = await ask("POST", "calendar/events", event)
    account, other = [
        await ask("POST", "accounts", {"name": f"{named} {n}", "kind": "asset", "currency": "EUR"})
        for n in range(2)
    ]
    entries = [
        {"account_id": account["id"], "amount": "7.00"},
        {"account_id": other["id"], "amount": "-7.00"},
    ]
    posted = await ask("POST", "transactions", {"entries": entries, "memo": named})
    await ask("PUT", f"configuration/{KEYS['key']}", {"kind": "text", "value": canary})
    output = {"model": canary, "purpose": "x", "prompt": named, "content": named}
    kept = await ask("POST", "model-outputs", output)
    return {
        "profile_id": profile["id"],
        "token_id": token["id"],
        "task_id": task["id"],
        "thread_id": thread["id"],
        "message_id": said["id"],
        "event_id": daily["id"],
        "account_id": account["id"],
        "transaction_id": posted["id"],
        "output_id": kept["id"],
    }
