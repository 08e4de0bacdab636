"""Posting: what moves between accounts, as a whole, once, and never changed afterwards.

PostgreSQL holds the rules, for whoever writes: it adds up, it is complete, it is fine enough for
its currency, its accounts are open and their owner's. Here is said early, and in words, what would
be refused at the commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

import polyplane as pp
from polyplane.domains.assistant.matters.currencies import minor_digits, shown
from polyplane.domains.assistant.matters.models_money import Account, Posting, Transaction


class Entry(NamedTuple):
    """What is added to one account; below nothing, taken from it."""

    account_id: UUID
    amount: Decimal


class Balance(NamedTuple):
    """What is in an account, from so many postings."""

    account_id: UUID
    currency: str
    balance: str
    postings: int


class Posted(NamedTuple):
    """A transaction with its postings, in their order."""

    transaction: Transaction
    entries: Sequence[Posting]


async def post(
    tx: pp.Write,
    owner_id: UUID | None,
    entries: Sequence[Entry],
    *,
    posted_on: date | None = None,
    memo: str | None = None,
    external_id: str | None = None,
    reverses_id: UUID | None = None,
) -> Posted:
    """Post a transaction. Raises Refused for what does not balance, or an account that there is
    not; Conflict for an external id that there is.
    """
    wanted = {it.account_id for it in entries}
    query = sa.select(Account).where(Account.tenant_id == tx.tenant, Account.id.in_(wanted))
    accounts = {it.id: it for it in await tx.scalars(query) if it.owner_id == owner_id}
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    for at, entry in enumerate(entries):
        account = accounts.get(entry.account_id)
        if account is None:
            raise pp.Refused("There is no such account.", field=f"entries.{at}.account_id")
        if account.closed:
            raise pp.Refused("The account is closed.", field=f"entries.{at}.account_id")
        if entry.amount != round(entry.amount, minor_digits(account.currency)):
            raise pp.Refused(
                f"{account.currency} is not counted so finely.", field=f"entries.{at}.amount"
            )
        totals[account.currency] += entry.amount
    if odd := next((it for it, total in totals.items() if total), None):
        raise pp.Refused(
            f"It does not balance: {shown(totals[odd], odd)} {odd} too much.", field="entries"
        )
    row = Transaction(
        tenant_id=tx.tenant,
        owner_id=owner_id,
        memo=memo,
        postings=len(entries),
        reverses_id=reverses_id,
        external_id=external_id,
        **({} if posted_on is None else {"posted_on": posted_on}),
    )
    tx.add(row)
    await tx.flush()
    postings = [
        Posting(
            tenant_id=tx.tenant,
            owner_id=owner_id,
            transaction_id=row.id,
            number=number,
            account_id=entry.account_id,
            currency=accounts[entry.account_id].currency,
            amount=entry.amount,
        )
        for number, entry in enumerate(entries, 1)
    ]
    # Always in one order, so that no two transactions wait for each other's accounts.
    tx.add_all(sorted(postings, key=lambda it: (str(it.account_id), it.number)))
    await tx.flush()
    return Posted(row, postings)


async def known(
    session: AsyncSession, tenant: str, owner_id: UUID | None, external_id: str
) -> Posted | None:
    """The transaction that came in under this external id."""
    query = sa.select(Transaction).where(
        Transaction.tenant_id == tenant,
        Transaction.owner_id.is_not_distinct_from(owner_id),
        Transaction.external_id == external_id,
    )
    row = (await session.scalars(query)).one_or_none()
    return None if row is None else Posted(row, await postings_of(session, tenant, [row.id]))


async def postings_of(
    session: AsyncSession, tenant: str, transactions: Sequence[UUID]
) -> list[Posting]:
    """The postings of these transactions, each one's in their order."""
    query = (
        sa.select(Posting)
        .where(Posting.tenant_id == tenant, Posting.transaction_id.in_(transactions))
        .order_by(Posting.transaction_id, Posting.number)
    )
    return list(await session.scalars(query))


def is_same(posted: Posted, entries: Sequence[Entry]) -> bool:
    """Whether this is what was posted."""
    return [(it.account_id, it.amount) for it in posted.entries] == [*entries]


async def reverse(tx: pp.Write, transaction: Transaction, memo: str | None) -> Posted:
    """Take a transaction back: the same postings with the other sign. Conflict when it was."""
    entries = [
        Entry(it.account_id, -it.amount)
        for it in await postings_of(tx.session, tx.tenant, [transaction.id])
    ]
    if transaction.reverses_id is not None:
        raise pp.Refused("It takes another one back itself.", field="transaction_id")
    return await post(tx, transaction.owner_id, entries, memo=memo, reverses_id=transaction.id)


async def balances(
    session: AsyncSession,
    tenant: str,
    accounts: Sequence[UUID] | None = None,
    *,
    on: date | None = None,
) -> list[Balance]:
    """What is in the accounts (None: all that the session sees), up to the day `on`."""
    counts = sa.select(
        Posting.account_id,
        sa.func.sum(Posting.amount).label("total"),
        sa.func.count().label("postings"),
    ).where(Posting.tenant_id == tenant)
    if accounts is not None:
        counts = counts.where(Posting.account_id.in_(accounts))
    if on is not None:
        counts = counts.join(
            Transaction,
            sa.and_(
                Transaction.id == Posting.transaction_id,
                Transaction.tenant_id == Posting.tenant_id,
                Transaction.posted_on <= on,
            ),
        )
    sums = counts.group_by(Posting.account_id).subquery()
    query = (
        sa.select(Account.id, Account.currency, sums.c.total, sums.c.postings)
        .join(sums, sums.c.account_id == Account.id, isouter=True)
        .where(Account.tenant_id == tenant)
        .order_by(Account.id)
    )
    if accounts is not None:
        query = query.where(Account.id.in_(accounts))
    return [
        Balance(id_, currency, shown(total or Decimal(), currency), postings or 0)
        for id_, currency, total, postings in await session.execute(query)
    ]
