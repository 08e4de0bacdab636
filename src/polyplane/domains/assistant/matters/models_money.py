"""Accounts, and what moved between them: double entry, exact, and never changed afterwards."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.domains.assistant.matters import states
from polyplane.domains.assistant.matters.tables import Owned, imported_once, once_each, rule
from polyplane.domains.assistant.models import listed, one_of, owned, refers

POSTINGS_MAX: Final = 100
"""Of one transaction."""
AMOUNT: Final = sa.Numeric(24, 4)


class Account(Owned):
    """Where money is, comes from, or goes to, in one currency."""

    __tablename__ = "accounts"
    __table_args__ = (
        sa.UniqueConstraint("id", "tenant_id", "currency"),
        once_each("name"),
        one_of("kind", states.ACCOUNT_KINDS),
        rule("currency", "currency ~ '^[A-Z]{3}$'"),
        listed("accounts"),
    )

    id: Mapped[UUID] = pp.key()
    name: Mapped[str] = mapped_column(sa.String(255))
    kind: Mapped[str] = mapped_column(sa.String(20))
    currency: Mapped[str] = mapped_column(sa.String(3))
    closed: Mapped[bool] = mapped_column(server_default=sa.false())


class Transaction(Owned):
    """What moved at once: postings that add up to nothing in each currency.

    It is never changed; `reverses_id` names the one that it takes back, once. `postings` is how
    many it has.
    """

    __tablename__ = "transactions"
    __table_args__ = (
        owned(),
        refers("reverses_id", "transactions"),
        sa.UniqueConstraint("reverses_id"),
        rule("postings", f"postings BETWEEN 2 AND {POSTINGS_MAX}"),
        imported_once("transactions"),
        sa.Index("ix_transactions_posted_on", "tenant_id", "posted_on"),
        listed("transactions"),
    )

    id: Mapped[UUID] = pp.key()
    posted_on: Mapped[date] = mapped_column(server_default=sa.func.current_date())
    memo: Mapped[str | None] = marks.personal(sa.String(500))
    postings: Mapped[int] = mapped_column(sa.SmallInteger)
    reverses_id: Mapped[UUID | None]
    external_id: Mapped[str | None] = mapped_column(sa.String(255))


class Posting(Owned):
    """What a transaction adds to one account; below nothing it takes away."""

    __tablename__ = "postings"
    __table_args__ = (
        refers("transaction_id", "transactions"),
        sa.ForeignKeyConstraint(
            ["account_id", "tenant_id", "currency"],
            [f"assistant.accounts.{it}" for it in ("id", "tenant_id", "currency")],
        ),
        sa.UniqueConstraint("transaction_id", "number"),
        rule("amount", "amount <> 0"),
        rule("number", f"number BETWEEN 1 AND {POSTINGS_MAX}"),
        sa.Index("ix_postings_account", "account_id", "tenant_id"),
    )

    id: Mapped[UUID] = pp.key()
    transaction_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(sa.SmallInteger)
    account_id: Mapped[UUID]
    currency: Mapped[str] = mapped_column(sa.String(3))
    amount: Mapped[Decimal] = mapped_column(AMOUNT)


MODELS = (Account, Transaction, Posting)
