"""What `plane.sagas` offers: start, wait for, signal, look at, cancel and retry sagas."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from polyplane.model.saga import I, Saga, SagaRecord
from polyplane.truth.session import Write


class Sagas:
    """The sagas of a plane. Any process may ask; those that run sagas do them."""

    async def start(
        self,
        saga: type[Saga[I]],
        input: I,
        *,
        actor: str = "",
        tenant: str = "default",
        key: str | None = None,
        tx: Write | None = None,
    ) -> UUID:
        """Start a saga; its id. It is durable when this returns, and is then finished or undone.

        The same `key` again starts nothing: the id is that of the first. Raises Conflict when that
        has another input; Refused or TooLarge when `input` is no JSON document of at most 256 KiB;
        NotFound when this plane does not declare `saga`. With `tx` it starts if and only if that
        transaction commits, under its actor and tenant.
        """
        raise NotImplementedError

    async def finished(self, saga_id: UUID, *, timeout_s: float = 60.0) -> SagaRecord:
        """Return when the saga has ended; its state is then "done" or "undone".

        Returns at once, too, when it is "stuck" or "changed". Raises NotSettled when it has not
        ended within `timeout_s` seconds (it goes on), NotFound when there is none.
        """
        raise NotImplementedError

    async def signal(
        self, saga_id: UUID, name: str, payload: Any = None, *, tx: Write | None = None
    ) -> bool:
        """Give a saga what its step `name` waits for, or is going to; whether it was the first.

        Only the first is kept. Raises NotFound when there is no such saga or it never waits for
        `name`, Conflict when it has ended or is being undone. With `tx`: if and only if that
        commits.
        """
        raise NotImplementedError

    async def find(
        self, saga: type[Saga[Any]], key: str, *, tenant: str = "default"
    ) -> UUID | None:
        """The id of the saga that was started with `key`, or None."""
        raise NotImplementedError

    async def show(self, saga_id: UUID) -> SagaRecord:
        """One saga with its steps; NotFound when there is none."""
        raise NotImplementedError

    async def list(
        self,
        *,
        state: str | None = None,
        name: str | None = None,
        tenant: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
    ) -> list[SagaRecord]:
        """The latest sagas first, without their steps: at most 200, from `after` on."""
        raise NotImplementedError

    async def cancel(self, saga_id: UUID, why: str = "Cancelled.") -> SagaRecord:
        """Undo a saga, from wherever it is; as it stands now.

        A remote step that is at work is given up, and undone too. Raises Conflict when the saga
        has ended.
        """
        raise NotImplementedError

    async def retry(self, saga_id: UUID, *, anyway: bool = False) -> SagaRecord:
        """Try again at once what waits, or is stuck; as it stands now.

        A saga that is "changed" goes on with what is declared now only with `anyway`: steps that
        are done are known by their names. Raises Conflict when the saga has ended.
        """
        raise NotImplementedError
