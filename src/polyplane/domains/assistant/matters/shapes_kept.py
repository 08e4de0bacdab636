"""What the API takes and gives of money, configuration and what models made. Amounts are texts."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from polyplane.domains.assistant.matters.currencies import shown
from polyplane.domains.assistant.matters.models_money import POSTINGS_MAX, Posting
from polyplane.domains.assistant.matters.money import Posted
from polyplane.domains.assistant.matters.shapes import (
    IMPORTED,
    ExternalId,
    Given,
    Line,
    Name,
    OwnedGiven,
    OwnedShown,
    Shown,
    Text,
    left_out,
    small,
)
from polyplane.domains.assistant.matters.states import AccountKind, ValueKind

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Amount = Annotated[str, StringConstraints(pattern=r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,4})?$")]
"""A text: what is written as a number would be read as a float on its way."""
CostShown = Annotated[str, BeforeValidator(lambda value: f"{value:.8f}")]
Cost = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,8})?$")]

TRANSACTIONS: Final = {
    "groceries": {
        "summary": "Groceries, paid by card",
        "value": {
            "memo": "Groceries",
            "entries": [
                {"account_id": "00000000-0000-4000-8000-000000000001", "amount": "12.50"},
                {"account_id": "00000000-0000-4000-8000-000000000002", "amount": "-12.50"},
            ],
        },
    }
}
VALUES: Final = {
    "tone": {"summary": "A text", "value": {"kind": "text", "value": "friendly"}},
    "rate": {"summary": "An exact decimal", "value": {"kind": "decimal", "value": "0.25"}},
}


class AccountGiven(OwnedGiven):
    """Where money is, comes from, or goes to."""

    name: Name = Field(examples=["Current account"])
    kind: AccountKind
    currency: Currency = Field(examples=["EUR"])


class AccountChange(Given):
    """What may be changed of an account; what is left out stays."""

    name: Name = left_out()
    kind: AccountKind = left_out()
    closed: bool = left_out("Nothing is posted to a closed account.")


class AccountShown(OwnedShown):
    """An account, as stored."""

    name: str
    kind: AccountKind
    currency: str
    closed: bool


class BalanceShown(BaseModel):
    """What is in an account: exactly, as a text."""

    model_config = ConfigDict(from_attributes=True)

    account_id: UUID
    currency: str
    balance: str = Field(examples=["12.50"])
    postings: int


class EntryGiven(Given):
    """What is added to one account; below nothing, taken from it."""

    account_id: UUID
    amount: Amount = Field(examples=["12.50"])


class TransactionGiven(OwnedGiven):
    """What moves at once; it adds up to nothing in each currency."""

    entries: list[EntryGiven] = Field(min_length=2, max_length=POSTINGS_MAX)
    posted_on: date = left_out("Today, if it is left out.")
    memo: Line | None = None
    external_id: ExternalId | None = Field(None, description=IMPORTED)


class ReversalGiven(Given):
    """Why it is taken back."""

    memo: Line | None = None


class EntryShown(BaseModel):
    """One posting, as stored."""

    account_id: UUID
    currency: str
    amount: str = Field(examples=["-12.50"])

    @classmethod
    def of(cls, row: Posting) -> Self:
        """How a row is shown."""
        return cls(
            account_id=row.account_id,
            currency=row.currency,
            amount=shown(row.amount, row.currency),
        )


class TransactionShown(OwnedShown):
    """A transaction, as stored. It never changes."""

    posted_on: date
    memo: str | None
    reverses_id: UUID | None
    external_id: str | None
    entries: list[EntryShown]

    @classmethod
    def of(cls, posted: Posted) -> Self:
        """How a transaction with its postings is shown."""
        row = posted.transaction
        named = {name: getattr(row, name) for name in cls.model_fields if name != "entries"}
        return cls(**named, entries=[EntryShown.of(it) for it in posted.entries])


class ConfigurationGiven(Given):
    """A value of this kind; a decimal is a text."""

    kind: ValueKind
    value: Annotated[Any, AfterValidator(small)]
    description: Annotated[str, StringConstraints(max_length=1_000)] | None = None


class ConfigurationShown(Shown):
    """A value, as stored."""

    key: str
    kind: ValueKind
    value: Any
    version: int
    description: str | None


class OutputGiven(OwnedGiven):
    """What a model made. Secrets in the prompt are masked before it is stored."""

    model: Name = Field(examples=["small-writer-2"])
    purpose: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        examples=["summary"]
    )
    prompt: Text = Field(examples=["Summarize the letter."])
    content: Text = Field(examples=["The kettle is broken."])
    input_tokens: int = Field(0, ge=0, le=2_000_000_000)
    output_tokens: int = Field(0, ge=0, le=2_000_000_000)
    cost: Cost = Field("0", examples=["0.00042"])
    currency: Currency = Field("USD", examples=["USD"])
    document_ids: list[UUID] = Field(default_factory=list, max_length=100)
    external_id: ExternalId | None = Field(None, description=IMPORTED)


class OutputShown(OwnedShown):
    """What a model made, as stored; the cost is an exact text."""

    model: str
    purpose: str
    prompt: str
    content: str
    input_tokens: int
    output_tokens: int
    cost: CostShown = Field(examples=["0.00042000"])
    currency: str
    external_id: str | None
    document_ids: list[UUID] = Field(default_factory=list)


class OutputFound(BaseModel):
    """One that was found by its meaning, as it is in truth; `score` is cosine similarity."""

    score: float
    output: OutputShown
