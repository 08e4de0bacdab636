"""Models with secrets, projections that read them and one that does not, and what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.marks import Secret
from polyplane.model.projection import Projection


class Base(pp.Model):
    """A catalogue of its own."""

    __abstract__ = True
    metadata = pp.metadata()


class Account(Base):
    """Whose it is, and what nobody may see."""

    __tablename__ = "account"
    id: Mapped[UUID] = pp.key()
    tenant_id: Mapped[str] = marks.tenant()
    owner_id: Mapped[str | None] = marks.owner(sa.String(64))
    name: Mapped[str] = mapped_column(default="")
    token: Mapped[Secret[str]] = marks.secret()
    more: Mapped[Secret[Any] | None] = marks.secret("more_of_it")


class Note(Base):
    """No tenant, no owner, and a key of two columns that somebody gives."""

    __tablename__ = "note"
    place: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[Secret[bytes]] = marks.secret()


class Diary(Base):
    """What is derived from the notes that belong to it."""

    __tablename__ = "diary"
    id: Mapped[UUID] = pp.key()
    title: Mapped[str]


class Page(Base):
    """A secret that belongs to a diary."""

    __tablename__ = "page"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner_id: Mapped[str | None] = marks.owner(sa.String(64))
    diary_id: Mapped[UUID | None] = mapped_column(index=True)
    text: Mapped[Secret[str]] = marks.secret()


class AccountNames(pp.Cached[Account]):
    """Reads no secret."""

    key_prefix = "name:"

    def derive(self, account: Account, /) -> pp.Entry:
        """The name, and that there is a token."""
        return pp.Entry({"name": account.name, "token": account.token is not None})


class AccountSearch(pp.Vectors[Account]):
    """Reads no secret either."""

    dimensions = 2

    def derive(self, account: Account, /) -> pp.Vector | None:
        """The name."""
        return pp.Vector(f"{account.name} {account.token}", {}, np.ones(2, "f4"))


class AccountHints(pp.Vectors[Account]):
    """Reads them, and says so."""

    dimensions = 2
    secrets = True

    def derive(self, account: Account, /) -> pp.Vector | None:
        """The end of the token."""
        return pp.Vector(f"...{account.token.reveal()[-4:]}", {}, np.ones(2, "f4"))


class Diaries(pp.Cached[Diary]):
    """How long each page is."""

    key_prefix = "diary:"
    secrets = True
    touches = {"pages": Page.diary_id}  # noqa: RUF012

    def derive(self, diary: Diary, /, pages: Sequence[Page] = ()) -> pp.Entry:
        """The title and the lengths."""
        return pp.Entry([diary.title, sorted(len(page.text.reveal()) for page in pages)])


class Prying(pp.Cached[Account]):
    """Reads a secret, and does not say so."""

    key_prefix = "prying:"

    def derive(self, account: Account, /) -> pp.Entry:
        """What it must not see."""
        return pp.Entry(account.token.reveal())


MODELS: list[type[pp.Model]] = [Account, Note, Diary, Page]
PROJECTIONS: list[type[Projection[Any]]] = [AccountNames, AccountHints, Diaries]
