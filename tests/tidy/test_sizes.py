"""Small files, small functions, thin package faces."""

from __future__ import annotations

from tests.tidy.source import SRC, package, suite

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
FACE_LINES_MAX = 10
PUBLIC_FACE_LINES_MAX = 45


def test_files_are_short() -> None:
    sizes = {s.where: s.text.count("\n") for s in (*package(), *suite())}
    sizes |= {str(sql): sql.read_text().count("\n") for sql in SRC.rglob("*.sql")}
    assert {where: n for where, n in sizes.items() if n > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    sizes = {
        f"{s.where}:{f.lineno} {f.name}": (f.end_lineno or f.lineno) - f.lineno + 1
        for s in (*package(), *suite())
        for f in s.functions()
    }
    assert {where: n for where, n in sizes.items() if n > FUNCTION_LINES_MAX} == {}


def test_package_faces_are_thin() -> None:
    sizes = {s.where: (s.name, s.text.count("\n")) for s in package() if s.is_package}
    allowed = {"polyplane": PUBLIC_FACE_LINES_MAX}
    assert {w: n for w, (name, n) in sizes.items() if n > allowed.get(name, FACE_LINES_MAX)} == {}
