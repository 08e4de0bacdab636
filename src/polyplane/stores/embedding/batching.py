"""Texts in pieces that an endpoint takes, by how many tokens they are about. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

BYTES_A_TOKEN: Final = 3.0
"""Before an endpoint has said: English has about four, other scripts three or fewer."""
_WEIGHT: Final = 0.1


class Tally:
    """How many bytes a token has, as an endpoint's answers show."""

    def __init__(self) -> None:
        self._bytes_a_token = BYTES_A_TOKEN

    def about(self, text: str) -> int:
        """About how many tokens `text` has; at least one."""
        return max(1, round(len(text.encode(errors="replace")) / self._bytes_a_token))

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """So many tokens were these."""
        size = sum(len(text.encode(errors="replace")) for text in texts)
        if size and tokens:
            seen = min(8.0, max(0.5, size / tokens))
            self._bytes_a_token += _WEIGHT * (seen - self._bytes_a_token)


def batches(
    texts: Sequence[str], about: Callable[[str], int], texts_max: int, tokens_max: int
) -> Iterator[tuple[list[str], int]]:
    """`texts` in order, in pieces of at most `texts_max` and about `tokens_max`; and about how many
    each has. A text of more is a piece of its own.
    """
    batch: list[str] = []
    total = 0
    for text in texts:
        tokens = about(text)
        if batch and (len(batch) == texts_max or total + tokens > tokens_max):
            yield batch, total
            batch, total = [], 0
        batch.append(text)
        total += tokens
    if batch:
        yield batch, total
