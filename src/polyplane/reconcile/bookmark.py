"""How far a verify is, written down now and then, so that another process can go on with it.

A file of JSON, replaced as a whole: it is as it was at one moment, whenever its writer dies. What
it says holds for collections as they were declared and for one epoch, and is refused for others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Self

from polyplane.errors import Conflict, Refused
from polyplane.model.drift import Part
from polyplane.model.items import Stamp
from polyplane.reconcile.looking import Look

FORMAT: Final = 1
EVERY_S: Final = 1.0
_SHARE: Final = 20
"""Writing takes at most one part in so many of the time, however much there is to write."""
_ANEW: Final = "Begin anew: polyplane verify"

State = dict[str, Any]
"""Plain values, as JSON has them."""


class Bookmark:
    """One verify's file. Make it with `begun` or `found`; `drop` it when the verify has ended."""

    def __init__(self, path: Path, asked: State, marks: dict[str, State]) -> None:
        self._path = path
        self._asked = asked
        self._marks = marks
        self._due = 0.0

    @classmethod
    def begun(cls, path: Path, asked: Mapping[str, Any]) -> Self:
        """That of a new verify of what is `asked`. Raises Refused when it cannot be written."""
        found = cls(path, dict(asked), {})
        found.write()
        return found

    @classmethod
    def found(cls, path: Path, asked: Mapping[str, Any]) -> Self | None:
        """That of a verify that was interrupted; None when none was.

        Raises Refused when it cannot be read, Conflict when something else was asked for.
        """
        try:
            kept = json.loads(path.read_text(encoding="ascii"))
            if kept["format"] != FORMAT:
                raise ValueError(f"format {kept['format']}")
            was, marks = dict(kept["asked"]), dict(kept["marks"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Refused(f"{path} cannot be gone on with: {error}.", fix=_ANEW) from error
        if was != dict(asked):
            raise Conflict(
                f"The verify that was interrupted was asked for {_shown(was)}.",
                fix=f"Ask for the same. {_ANEW}",
            )
        return cls(path, was, marks)

    def of(self, projection: str, **bound: Any) -> Mark:
        """The mark of one projection, which holds for what is `bound` only.

        Raises Conflict when what was compared before was bound to something else.
        """
        mark = self._marks.setdefault(projection, {"bound": bound, "stages": {}})
        for name, now in bound.items():
            if (was := mark["bound"].get(name)) != now:
                raise Conflict(
                    f"{projection} was compared with the {name} {was}, and now has {now}: "
                    "what was interrupted cannot be gone on with.",
                    fix=_ANEW,
                )
        return Mark(self, mark["stages"])

    @property
    def is_due(self) -> bool:
        """Whether it is time to write."""
        return perf_counter() >= self._due

    def write(self) -> None:
        """Write all marks down. Raises Refused when the file cannot be written."""
        started = perf_counter()
        kept = {
            "document": "polyplane verify, not ended",
            "format": FORMAT,
            "asked": self._asked,
            "marks": self._marks,
        }
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            beside.write_text(json.dumps(kept), encoding="ascii")
            os.replace(beside, self._path)
        except OSError as error:
            raise Refused(f"How far it is cannot be written down: {error}.") from error
        ended = perf_counter()
        self._due = ended + max(EVERY_S, _SHARE * (ended - started))

    def drop(self) -> None:
        """There is nothing to go on with any more."""
        self._path.unlink(missing_ok=True)


class Mark:
    """How far one projection is: the stages of its verify, each as it was noted last."""

    def __init__(self, bookmark: Bookmark, stages: dict[str, State]) -> None:
        self._bookmark = bookmark
        self._stages = stages

    def noted(self, stage: str) -> State | None:
        """What was noted of `stage`."""
        return self._stages.get(stage)

    def note(self, stage: str, state: Callable[[], State]) -> None:
        """Note what `state` gives, when it is time to."""
        if self._bookmark.is_due:
            self._stages[stage] = state()
            self._bookmark.write()

    def end(self, stage: str, part: Part) -> None:
        """Note at once what a stage came to; those before it are done with."""
        self._stages.clear()
        self._stages[stage] = asdict(part)
        self._bookmark.write()

    def ended(self, stage: str) -> Part | None:
        """What `stage` came to, if it has ended."""
        found = self._stages.get(stage)
        return None if found is None else _part_of(found)


def looks_state(looks: Mapping[str, Look]) -> State:
    """Looks as plain values."""
    return {
        key: [found.expected, [[it.position, it.digest] for it in found.held]]
        for key, found in looks.items()
    }


def looks_of(state: State) -> dict[str, Look]:
    """What `state` was taken of."""
    return {
        key: Look(expected, tuple(Stamp(key, *it) for it in held))
        for key, (expected, held) in state.items()
    }


def _part_of(state: State) -> Part:
    plain = {name: tuple(it) if isinstance(it, list) else it for name, it in state.items()}
    return Part(**plain | {"buckets": tuple(map(tuple, state["buckets"]))})


def _shown(asked: Mapping[str, Any]) -> str:
    names = ", ".join(asked.get("projections", ())) or "nothing"
    return f"{names} with --deep" if asked.get("deep") else names
