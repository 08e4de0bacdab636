"""Who somebody is to the assistant, and what it may come to elsewhere with."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

import polyplane as pp
from polyplane import marks
from polyplane.domains.assistant.matters import states
from polyplane.domains.assistant.matters.tables import MOMENT, Owned, once_each, rule
from polyplane.domains.assistant.models import listed, one_of
from polyplane.marks import Secret


class UserProfile(Owned):
    """What a user of the plane is called here, and how they want things."""

    __tablename__ = "user_profiles"
    __table_args__ = (
        once_each(),
        listed("user_profiles"),
    )

    id: Mapped[UUID] = pp.key()
    display_name: Mapped[str] = marks.personal(sa.String(255))
    locale: Mapped[str] = mapped_column(sa.String(35), server_default="en")
    zone: Mapped[str] = mapped_column(sa.String(64), server_default="UTC")
    preferences: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")


class OAuthToken(Owned):
    """An account of somebody at a provider, and the tokens for it.

    While a refresh is asked for (`refreshing`), `fence` says whose turn it is and `lease_until`
    how long. With `needs_consent` nothing but the owner's consent helps; `failure` says why.
    """

    __tablename__ = "oauth_tokens"
    __table_args__ = (
        once_each("provider", "account"),
        one_of("state", tuple(states.TOKEN_MOVES)),
        rule("lease_until", "(lease_until IS NOT NULL) = (state = 'refreshing')"),
        rule("failure", "failure IS NOT NULL OR state <> 'needs_consent'"),
        rule("fence", "fence >= 0"),
        listed("oauth_tokens"),
    )

    id: Mapped[UUID] = pp.key()
    provider: Mapped[str] = mapped_column(sa.String(31))
    account: Mapped[str] = marks.personal(sa.String(255))
    state: Mapped[str] = mapped_column(sa.String(20), server_default="active")
    scopes: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")
    access_token: Mapped[Secret[str]] = marks.secret()
    refresh_token: Mapped[Secret[str] | None] = marks.secret()
    expires_at: Mapped[datetime | None] = mapped_column(MOMENT)
    refreshed_at: Mapped[datetime | None] = mapped_column(MOMENT)
    lease_until: Mapped[datetime | None] = mapped_column(MOMENT)
    fence: Mapped[int] = mapped_column(sa.BigInteger, server_default="0")
    failure: Mapped[str | None] = mapped_column(sa.String(500))


class OAuthConsent(Owned):
    """That somebody was sent to a provider to consent, and has to come back in time, once."""

    __tablename__ = "oauth_consents"
    __table_args__ = (sa.UniqueConstraint("state_hash"),)

    id: Mapped[UUID] = pp.key()
    provider: Mapped[str] = mapped_column(sa.String(31))
    account: Mapped[str] = marks.personal(sa.String(255))
    state_hash: Mapped[str] = mapped_column(sa.String(64))
    verifier: Mapped[Secret[str]] = marks.secret()
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    finished_at: Mapped[datetime | None] = mapped_column(MOMENT)


class Integration(Owned):
    """How somebody wants an integration to behave: settings of its kind, and its secrets apart."""

    __tablename__ = "integrations"
    __table_args__ = (once_each("kind"), listed("integrations"))

    id: Mapped[UUID] = pp.key()
    kind: Mapped[str] = mapped_column(sa.String(50))
    enabled: Mapped[bool] = mapped_column(server_default=sa.true())
    settings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    credentials: Mapped[Secret[dict[str, str]] | None] = marks.secret()


MODELS = (UserProfile, OAuthToken, OAuthConsent, Integration)
