"""Accounts and what moved between them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Body, Response

import polyplane as pp
from polyplane.domains.assistant.matters import money
from polyplane.domains.assistant.matters.desk import AtDesk, own
from polyplane.domains.assistant.matters.models_money import Account, Posting, Transaction
from polyplane.domains.assistant.matters.money import Entry, Posted
from polyplane.domains.assistant.matters.shapes_kept import (
    TRANSACTIONS,
    AccountChange,
    AccountGiven,
    AccountShown,
    BalanceShown,
    ReversalGiven,
    TransactionGiven,
    TransactionShown,
)
from polyplane.domains.assistant.permissions import READ, WRITE
from polyplane.web import After, Limit, Page, etag_of, paginate, problem_responses, repeatable

router = APIRouter()


@router.post(
    "/accounts", dependencies=[WRITE, repeatable], status_code=201, responses=problem_responses(409)
)
async def open_account(given: AccountGiven, desk: AtDesk) -> AccountShown:
    """Add an account. Conflict when its owner has one of this name."""
    row = Account(
        tenant_id=desk.tenant,
        owner_id=desk.owner(given.owner_id),
        **given.model_dump(exclude={"owner_id"}),
    )
    return await desk.add(row, AccountShown)


@router.get("/accounts", dependencies=[READ])
async def list_accounts(desk: AtDesk, after: After = None, limit: Limit = 50) -> Page[AccountShown]:
    """Accounts, newest first."""
    return await desk.page(Account, AccountShown, after, limit)


@router.get("/accounts/{account_id}", dependencies=[READ], responses=problem_responses(404))
async def read_account(account_id: UUID, desk: AtDesk) -> AccountShown:
    """One account."""
    return await desk.read(Account, account_id, AccountShown)


@router.get("/accounts/{account_id}/balance", dependencies=[READ], responses=problem_responses(404))
async def read_balance(account_id: UUID, desk: AtDesk, on: date | None = None) -> BalanceShown:
    """What is in an account; with `on`, at the end of that day."""
    async with desk.plane.acting(desk.caller).read() as session:
        await own(session, desk.tenant, Account, account_id)
        [found] = await money.balances(session, desk.tenant, [account_id], on=on)
    return BalanceShown.model_validate(found)


@router.patch(
    "/accounts/{account_id}",
    dependencies=[WRITE, repeatable],
    responses=problem_responses(404, 409, 412),
)
async def change_account(account_id: UUID, change: AccountChange, desk: AtDesk) -> AccountShown:
    """Change what is named. With If-Match, only if nobody changed it meanwhile."""
    return await desk.change(Account, account_id, change.changes(), AccountShown)


@router.delete(
    "/accounts/{account_id}",
    dependencies=[WRITE, repeatable],
    status_code=204,
    responses=problem_responses(404, 409, 412),
)
async def delete_account(account_id: UUID, desk: AtDesk) -> None:
    """Delete an account to which nothing was ever posted."""
    await desk.delete(Account, account_id)


@router.post(
    "/transactions",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses={
        200: {"model": TransactionShown, "description": "It came in before."},
        **problem_responses(409),
    },
)
async def post_transaction(
    given: Annotated[TransactionGiven, Body(openapi_examples=TRANSACTIONS)],
    desk: AtDesk,
    response: Response,
) -> TransactionShown:
    """Post a transaction. One that came in under its external id before is shown as it is; Conflict
    when it has other postings.
    """
    owner_id = desk.owner(given.owner_id)
    entries = [Entry(it.account_id, Decimal(it.amount)) for it in given.entries]
    if (before := await _known(desk, owner_id, given, entries)) is not None:
        response.status_code = 200
        return before
    try:
        async with desk.plane.acting(desk.caller).write() as tx:
            posted = await money.post(
                tx,
                owner_id,
                entries,
                posted_on=given.posted_on,
                memo=given.memo,
                external_id=given.external_id,
            )
    except pp.Conflict:
        # Perhaps it came in at the same moment.
        if (before := await _known(desk, owner_id, given, entries)) is None:
            raise
        response.status_code = 200
        return before
    desk.versioned(posted.transaction, tx)
    return TransactionShown.of(posted)


async def _known(
    desk: AtDesk, owner_id: UUID | None, given: TransactionGiven, entries: list[Entry]
) -> TransactionShown | None:
    if given.external_id is None:
        return None
    async with desk.plane.acting(desk.caller).read() as session:
        found = await money.known(session, desk.tenant, owner_id, given.external_id)
    if found is None:
        return None
    if not money.is_same(found, entries):
        raise pp.Conflict("Another transaction has this external id.", field="external_id")
    desk.response.headers["ETag"] = etag_of(found.transaction)
    return TransactionShown.of(found)


@router.get("/transactions", dependencies=[READ])
async def list_transactions(
    desk: AtDesk, account_id: UUID | None = None, after: After = None, limit: Limit = 50
) -> Page[TransactionShown]:
    """Transactions, newest first; with `account_id`, those that posted to it."""
    query = sa.select(Transaction).where(Transaction.tenant_id == desk.tenant)
    if account_id is not None:
        posted = sa.select(Posting.transaction_id).where(
            Posting.account_id == account_id, Posting.tenant_id == desk.tenant
        )
        query = query.where(Transaction.id.in_(posted))
    async with desk.plane.acting(desk.caller).read() as session:
        rows, cursor = await paginate(session, query, Transaction, after, limit)
        postings = await money.postings_of(session, desk.tenant, [row.id for row in rows])
    shown = [
        TransactionShown.of(Posted(row, [it for it in postings if it.transaction_id == row.id]))
        for row in rows
    ]
    return Page(items=shown, next=cursor)


@router.get("/transactions/{transaction_id}", dependencies=[READ], responses=problem_responses(404))
async def read_transaction(transaction_id: UUID, desk: AtDesk) -> TransactionShown:
    """One transaction."""
    async with desk.plane.acting(desk.caller).read() as session:
        row = await own(session, desk.tenant, Transaction, transaction_id)
        posted = Posted(row, await money.postings_of(session, desk.tenant, [row.id]))
    desk.response.headers["ETag"] = etag_of(row)
    return TransactionShown.of(posted)


@router.post(
    "/transactions/{transaction_id}/reverse",
    dependencies=[WRITE, repeatable],
    status_code=201,
    responses=problem_responses(404, 409),
)
async def reverse_transaction(
    transaction_id: UUID, given: ReversalGiven, desk: AtDesk
) -> TransactionShown:
    """Take a transaction back by another one. Conflict when it was taken back before."""
    async with desk.plane.acting(desk.caller).write() as tx:
        row = await own(tx.session, desk.tenant, Transaction, transaction_id)
        posted = await money.reverse(tx, row, given.memo)
    desk.versioned(posted.transaction, tx)
    return TransactionShown.of(posted)
