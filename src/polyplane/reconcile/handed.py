"""Lines of audit that were handed out with proofs, checked without a database."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from polyplane.model.audit import AuditRow, content_hash
from polyplane.reconcile.trail import Audited
from polyplane.security.merkle import root_by
from polyplane.security.sealing import Leaf, Seal, is_signed


class Handed:
    """What `audit export` has written, line by line."""

    def __init__(self, keys: Collection[str]) -> None:
        self._keys = keys
        self._roots: dict[int, str] = {}
        self.done = Audited()

    def add(self, lines: Iterable[str | bytes]) -> None:
        """More lines."""
        for line in lines:
            try:
                found = json.loads(line)
                if "seal" in found:
                    self._seal(Seal.of(found["seal"]))
                else:
                    self._row(_row_of(found["row"]), found.get("under"), found.get("proof", []))
            except (ValueError, TypeError, KeyError):
                self.done.add("forged", "A line is neither a seal nor a row.")

    def _seal(self, seal: Seal) -> None:
        self.done.seals += 1
        if is_signed(seal, self._keys):
            self._roots[seal.number] = seal.root
        else:
            what = f"Seal {seal.number} is not signed by a key of ours."
            self.done.add("forged", what, seal.number)

    def _row(self, row: AuditRow, under: int | None, proof: list[str]) -> None:
        self.done.rows += 1
        content = content_hash(row.document())
        if under is None:
            self.done.waiting += 1
            return
        found = root_by(Leaf(row.seq, bytes.fromhex(content)).hash, proof).hex()
        if found != self._roots.get(under):
            what = f"Row {row.seq} is not what was sealed."
            self.done.add("edited", what, under, [row.seq])


def _row_of(found: dict[str, Any]) -> AuditRow:
    return AuditRow(**{**found, "at": datetime.fromisoformat(found["at"])})
