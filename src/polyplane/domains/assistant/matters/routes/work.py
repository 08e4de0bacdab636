"""Tasks, and messages in their threads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter

import polyplane as pp
from polyplane.domains.assistant.matters import states
from polyplane.domains.assistant.matters.desk import AtDesk, locked, own
from polyplane.domains.assistant.matters.models_work import Message, Task, Thread
from polyplane.domains.assistant.matters.shapes import (
    MessageChange,
    MessageGiven,
    MessageShown,
    TaskChange,
    TaskGiven,
    TaskShown,
    ThreadGiven,
    ThreadShown,
)
from polyplane.domains.assistant.matters.states import Channel, TaskStatus
from polyplane.domains.assistant.permissions import READ, WRITE
from polyplane.web import After, Limit, Page, problem_responses, repeatable

router = APIRouter()
BY_TIME = ("sent_at", "id")


def _moved(row: Task, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The changes, with the time of the end. Raises Conflict for a move that there is not."""
    wanted = changes.get("status", row.status)
    if not states.may_become(states.TASK_MOVES, row.status, wanted):
        raise pp.Conflict(f"What is {row.status} cannot become {wanted}.", field="status")
    if wanted == row.status:
        return changes
    return {**changes, "completed_at": _ended(wanted)}


def _ended(status: str) -> datetime | None:
    return datetime.now(UTC) if status in states.TASK_ENDED else None


@router.post(
    "/tasks", dependencies=[WRITE, repeatable], status_code=201, responses=problem_responses(409)
)
async def create_task(given: TaskGiven, desk: AtDesk) -> TaskShown:
    """Add a task. Conflict when its external id is known."""
    row = Task(
        tenant_id=desk.tenant,
        owner_id=desk.owner(given.owner_id),
        completed_at=_ended(given.status),
        **given.model_dump(exclude={"owner_id"}),
    )
    return await desk.add(row, TaskShown)


@router.get("/tasks", dependencies=[READ])
async def list_tasks(
    desk: AtDesk, status: TaskStatus | None = None, after: After = None, limit: Limit = 50
) -> Page[TaskShown]:
    """Tasks, newest first; with `status`, those alone."""
    conditions = [] if status is None else [Task.status == status]
    return await desk.page(Task, TaskShown, after, limit, *conditions)


@router.get("/tasks/{task_id}", dependencies=[READ], responses=problem_responses(404))
async def read_task(task_id: UUID, desk: AtDesk) -> TaskShown:
    """One task."""
    return await desk.read(Task, task_id, TaskShown)


@router.patch(
    "/tasks/{task_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_task(task_id: UUID, change: TaskChange, desk: AtDesk) -> TaskShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(Task, task_id, change.changes(), TaskShown, check=_moved)


@router.delete(
    "/tasks/{task_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_task(task_id: UUID, desk: AtDesk) -> None:
    """Delete a task."""
    await desk.delete(Task, task_id)


@router.post(
    "/threads", dependencies=[WRITE, repeatable], status_code=201, responses=problem_responses(409)
)
async def create_thread(given: ThreadGiven, desk: AtDesk) -> ThreadShown:
    """Begin a thread of messages."""
    row = Thread(
        tenant_id=desk.tenant,
        owner_id=desk.owner(given.owner_id),
        **given.model_dump(exclude={"owner_id"}),
    )
    return await desk.add(row, ThreadShown)


@router.get("/threads", dependencies=[READ])
async def list_threads(
    desk: AtDesk, channel: Channel | None = None, after: After = None, limit: Limit = 50
) -> Page[ThreadShown]:
    """Threads, newest first; with `channel`, those alone."""
    conditions = [] if channel is None else [Thread.channel == channel]
    return await desk.page(Thread, ThreadShown, after, limit, *conditions)


@router.post(
    "/threads/{thread_id}/messages",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(404, 409),
)
async def add_message(thread_id: UUID, given: MessageGiven, desk: AtDesk) -> MessageShown:
    """Add a message to a thread. Conflict when its external id is known."""
    async with desk.plane.acting(desk.caller).write() as tx:
        thread = await locked(tx, Thread, thread_id)
        columns = given.model_dump(exclude={"read"}, exclude_unset=True)
        row = Message(
            tenant_id=desk.tenant,
            owner_id=thread.owner_id,
            thread_id=thread.id,
            read_at=datetime.now(UTC) if given.read else None,
            **columns,
        )
        tx.add(row)
    return desk.written(row, tx, MessageShown)


@router.get("/threads/{thread_id}/messages", dependencies=[READ], responses=problem_responses(404))
async def list_messages_of_thread(
    thread_id: UUID, desk: AtDesk, after: After = None, limit: Limit = 50
) -> Page[MessageShown]:
    """The messages of a thread, the latest first."""
    async with desk.plane.acting(desk.caller).read() as session:
        await own(session, desk.tenant, Thread, thread_id)
    of_thread = Message.thread_id == thread_id
    return await desk.page(Message, MessageShown, after, limit, of_thread, by=BY_TIME)


@router.get("/messages", dependencies=[READ])
async def list_messages(
    desk: AtDesk, unread: bool | None = None, after: After = None, limit: Limit = 50
) -> Page[MessageShown]:
    """Messages of all threads, the latest first; with `unread`, only those (not) read."""
    conditions = [] if unread is None else [Message.read_at.is_(None) == unread]
    return await desk.page(Message, MessageShown, after, limit, *conditions, by=BY_TIME)


@router.get("/messages/{message_id}", dependencies=[READ], responses=problem_responses(404))
async def read_message(message_id: UUID, desk: AtDesk) -> MessageShown:
    """One message. That somebody looked at it here does not make it read."""
    return await desk.read(Message, message_id, MessageShown)


@router.patch(
    "/messages/{message_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_message(message_id: UUID, change: MessageChange, desk: AtDesk) -> MessageShown:
    """Say that it was read, or that it was not. What was read first, when it was, stays."""

    def check(row: Message, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        if not changes["read"]:
            return {"read_at": None}
        return {"read_at": row.read_at or datetime.now(UTC)}

    return await desk.change(Message, message_id, change.changes(), MessageShown, check=check)


@router.delete(
    "/messages/{message_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_message(message_id: UUID, desk: AtDesk) -> None:
    """Delete a message."""
    await desk.delete(Message, message_id)


@router.get("/threads/{thread_id}", dependencies=[READ], responses=problem_responses(404))
async def read_thread(thread_id: UUID, desk: AtDesk) -> ThreadShown:
    """One thread."""
    return await desk.read(Thread, thread_id, ThreadShown)


@router.delete(
    "/threads/{thread_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_thread(thread_id: UUID, desk: AtDesk) -> None:
    """Delete a thread with its messages."""
    await desk.delete(Thread, thread_id)
