"""Secret values: a type that does not show what it holds, and the column that stores ciphertext.

A row is read as ciphertext. Its data keys are fetched with it, for all rows of a statement at once;
a value is decrypted when somebody says `reveal`, so that listing rows decrypts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, NoReturn, Self

import sqlalchemy as sa
from sqlalchemy.exc import DontWrapMixin
from typing_extensions import TypeVar

from polyplane.errors import Refused

T_co = TypeVar("T_co", covariant=True)

MASK: Final = "Secret(***)"
"""All that anybody sees of one."""


class NotSealed(Refused, DontWrapMixin):
    """A value for a secret column that did not come through a row of its model."""


class Secret(Generic[T_co]):
    """A value (text, bytes or JSON) that shows itself to nobody but who says `reveal`.

    Not in `repr`, `str`, formats, logs, JSON, pickles or comparisons. Give one to an attribute of
    a row: `row.token = Secret("...")`.
    """

    __slots__ = ("__weakref__", "_open", "_sealed")

    def __init__(self, value: T_co) -> None:
        """Raises TypeError for None and for another Secret: those are no values."""
        if value is None or isinstance(value, Secret):
            raise TypeError(f"A {type(value).__name__} is no value to keep secret.")
        self._sealed: str | None = None
        self._open: Callable[[], T_co] = lambda: value

    def reveal(self) -> T_co:
        """The value itself.

        Raises SecretDestroyed when its data key is gone, SecretDamaged when its ciphertext is not
        what was written in this place, Refused when it was not read with its row.
        """
        return self._open()

    def __repr__(self) -> str:
        return MASK

    def __format__(self, how: str) -> str:
        return format(MASK, how)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not to be pickled.")


def sealed(text: str) -> Secret[Any]:
    """What stands for the ciphertext `text`; it can be revealed when it is bound."""
    found: Secret[Any] = Secret.__new__(Secret)
    found._sealed = text
    found._open = _unbound
    return found


def locked(column: str, why: str, fix: str) -> Secret[Any]:
    """What stands for a value of `column` that is not to be revealed: who tries is told why."""

    def refuse() -> NoReturn:
        raise Refused(f"{column} is secret: {why}", field=column, fix=fix)

    found = sealed("")
    found._open = refuse
    return found


def bound(secret: Secret[Any], reveal: Callable[[], Any]) -> Secret[Any]:
    """`secret`, which from now on is revealed by `reveal`."""
    secret._open = reveal
    return secret


def ciphertext_of(secret: Secret[Any]) -> str | None:
    """The ciphertext it was read as; None for one that was not stored yet."""
    return secret._sealed


def is_bound(secret: Secret[Any]) -> bool:
    """Whether somebody has said how it is revealed."""
    return secret._open is not _unbound


def _unbound() -> NoReturn:
    raise Refused(
        "A secret was read without the row it belongs to.",
        fix="Read whole rows of its model in plane.read or plane.write, not as a stream.",
    )


class SealedText(sa.types.TypeDecorator[Secret[Any]]):
    """A column of ciphertext. It takes only what a row of the model in `plane.write` gives it."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """The ciphertext; NotSealed for anything else."""
        if value is None:
            return None
        text = ciphertext_of(value) if isinstance(value, Secret) else None
        if text is None:
            raise NotSealed(
                "A secret column takes, and finds, nothing but what a row gives it.",
                fix='Write it as an attribute of a row: tx.add(Row(token=Secret("..."))).',
            )
        return text

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Secret[Any] | None:
        """What stands for the ciphertext."""
        return None if value is None else sealed(value)
