"""Good files with damage: cut, overwritten, repeated, put together."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.hostile import forms
from tests.hostile.bombs import ANY, Hostile

TOKENS = (
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"-1",
    b"99999999999",
    b"<",
    b"{",
    b"[",
)


def mutants(seed: int) -> Iterator[Hostile]:
    """As many as are asked for; the same for the same seed."""
    rng = random.Random(seed)
    files = forms.good()
    # Archives that are damaged within, and whole without: their checksums are right.
    within = {
        name: forms.entries_of(files[name]) for name in ("page.docx", "page.odt", "page.epub")
    }
    for number in range(10**9):
        name = rng.choice([*files])
        if name in within and rng.random() < 0.6:
            entries = dict(within[name])
            entry = rng.choice([it for it in entries if it != "mimetype"])
            content = entries[entry]
            entries[entry] = _damaged(
                rng, content if isinstance(content, bytes) else content.encode()
            )
            raw = forms.archive(entries)
        else:
            raw = _damaged(rng, files[name])
        stem, _, suffix = name.rpartition(".")
        shown = f"{stem}-{number}.{suffix if rng.random() < 0.9 else 'txt'}"
        yield Hostile(shown, None, raw, ANY)


def _damaged(rng: random.Random, content: bytes) -> bytes:
    raw = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        if not raw:
            break
        at = rng.randrange(len(raw))
        match rng.randrange(7):
            case 0:
                del raw[at:]
            case 1:
                raw[at] = rng.randrange(256)
            case 2:
                raw[at : at + 4] = rng.choice(TOKENS)
            case 3:
                del raw[at : at + rng.randrange(1, 200)]
            case 4:
                raw[at:at] = raw[at : at + rng.randrange(1, 500)] * rng.randrange(1, 50)
            case 5:
                raw[at:at] = rng.randbytes(rng.randrange(1, 60))
            case _:
                raw[at] ^= 1 << rng.randrange(8)
    return bytes(raw)
