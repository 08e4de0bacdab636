"""The tree drawn at the top of errors.py is the tree of the classes."""

from __future__ import annotations

import re

from polyplane import errors

ROW = re.compile(r"^(?P<indent>[ │├└─]*)(?P<name>\w+) +(?P<status>\d+)  exit (?P<exit>\d+) ")

Row = tuple[str, str, int, int]  # name, parent, HTTP status, exit code


def _drawn(picture: str) -> list[Row]:
    rows: list[Row] = []
    path: list[tuple[int, str]] = []
    for line in picture.splitlines():
        if not (match := ROW.match(line)):
            continue
        depth = len(match["indent"])
        path = [step for step in path if step[0] < depth]
        parent = path[-1][1] if path else "Exception"
        path.append((depth, match["name"]))
        rows.append((match["name"], parent, int(match["status"]), int(match["exit"])))
    return rows


def test_drawn_tree_equals_the_classes() -> None:
    defined = [
        (name, cls.__bases__[0].__name__, cls.status, cls.exit_code)
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.PolyplaneError)
    ]
    assert sorted(_drawn(errors.__doc__ or "")) == sorted(defined)
