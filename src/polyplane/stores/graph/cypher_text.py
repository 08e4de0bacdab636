"""Free Cypher, read as far as we must: what is a word of it, and what is a label. Pure.

Whether a query writes is said by the engine that runs it. This is for what engines allow a query
that only reads (files, procedures, administration), and for the labels of generations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from polyplane.errors import Refused

_TOKENS: Final = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<quoted>`(?:[^`]|``)*`)
    |(?P<parameter>\$(?:\w+|`(?:[^`]|``)*`))
    |(?P<number>\d\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_MAP: Final = "map"
"""What closes a brace that holds no query."""


class Token(NamedTuple):
    """A piece of a query: kind (a group of the expression above) and text."""

    kind: str
    text: str


def tokens(text: str) -> list[Token]:
    """All of `text`, in order; joined, they are it again.

    Raises Refused where a text or a comment does not end, and for escapes of characters, which
    some engines undo before they look for the end of a text.
    """
    if re.search(r"\\u[0-9a-fA-F]{4}", text):
        raise Refused(
            "A query cannot escape characters by number.", field="text", fix="Use a parameter."
        )
    found = [Token(match.lastgroup or "", match[0]) for match in _TOKENS.finditer(text)]
    for token, following in pairwise([*found, Token("", "")]):
        if token.kind == "sign" and (
            token.text in "'\"`" or (token.text, following.text) == ("/", "*")
        ):
            raise Refused(f"A query has no end of {token.text}.", field="text")
    return found


def words(text: str) -> list[str]:
    """The bare words of a query in upper case: no texts, comments, parameters or quoted names."""
    return [token.text.upper() for token in tokens(text) if token.kind == "word"]


def check_single(text: str) -> None:
    """Refused for nothing, or more than one statement."""
    left = [token.text for token in tokens(text) if token.kind != "space"]
    while left and left[-1] == ";":
        left.pop()
    if not left or ";" in left:
        raise Refused("A query is one statement.", field="text")


def quoted(name: str) -> str:
    """`name` as Cypher has it between backticks."""
    return "`" + name.replace("`", "``") + "`"


def relabelled(text: str, names: Mapping[str, str]) -> str:
    """`text` with each label or type that is a key of `names` replaced by its value, quoted.

    What stands for itself is left as it is.
    """
    found = tokens(text)
    wanted = {name: other for name, other in names.items() if name != other}
    if not wanted:
        return text
    for index in _labels(found):
        name = found[index].text
        if found[index].kind == "quoted":
            name = name[1:-1].replace("``", "`")
        if name in wanted:
            found[index] = Token("quoted", quoted(wanted[name]))
    return "".join(token.text for token in found)


def _labels(found: list[Token]) -> list[int]:
    """Where the labels and types are: behind a colon that is not one of a map."""
    labels: list[int] = []
    solid = [index for index, token in enumerate(found) if token.kind != "space"]
    closing: list[str] = []
    at = 0
    while at < len(solid):
        text = found[solid[at]].text
        if found[solid[at]].kind != "sign":
            at += 1
            continue
        if text in _OPENING:
            closing.append(_MAP if text == "{" and _is_map(found, solid, at) else _OPENING[text])
        elif closing and (text == closing[-1] or (text == "}" and closing[-1] == _MAP)):
            closing.pop()
        at += 1
        if text == ":" and (not closing or closing[-1] != _MAP):
            at = _expression(found, solid, at, labels)
    return labels


def _is_map(found: list[Token], solid: list[int], at: int) -> bool:
    """Whether the brace here opens a map (or a map projection), and not a query."""
    following = [found[index] for index in solid[at + 1 : at + 3]]
    if not following or following[0].text in ("}", ".", "*"):
        return True
    named = following[0].kind in ("word", "quoted", "string")
    return named and len(following) == 2 and following[1].text in (":", ",", "}")


def _expression(found: list[Token], solid: list[int], at: int, labels: list[int]) -> int:
    """Note the names of the label expression that begins here; where it ends."""
    depth = 0
    while at < len(solid):
        token = found[solid[at]]
        following = found[solid[at + 1]].text if at + 1 < len(solid) else ""
        if token.text in ("!", ":", "("):
            depth += token.text == "("
            at += 1
            continue
        if token.kind not in ("word", "quoted") or following == ".":
            break  # `WHERE a:Label | a.name`: what comes behind the bar is no label
        labels.append(solid[at])
        at += 1
        while depth and at < len(solid) and found[solid[at]].text == ")":
            depth -= 1
            at += 1
        if at == len(solid) or found[solid[at]].text not in ("|", "&"):
            break
        at += 1
    return at
