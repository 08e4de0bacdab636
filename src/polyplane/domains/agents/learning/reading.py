"""Files on a disk: which there are below a path, and what one holds. The only place that looks."""

from __future__ import annotations

import errno
import os
import stat
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from polyplane.domains.agents.learning.findings import Findings, digest_of
from polyplane.domains.agents.learning.prose import found_in_markdown, found_in_text
from polyplane.domains.agents.learning.python_source import Unlearnable, found_in_python

FILE_BYTES_MAX: Final = 1 << 20
"""Larger files are told of, and not learned: what is made of one is held in memory."""
FILES_MAX: Final = 200_000
PATH_MAX: Final = 1024

PYTHON: Final = frozenset({".py", ".pyi"})
MARKDOWN: Final = frozenset({".md", ".markdown"})
TEXT: Final = frozenset({".txt", ".rst", ".text"})

_FOREIGN: Final = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules"})
"""Folders of what was made, or is somebody else's."""
_TESTS: Final = frozenset({"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"})
"""Folders of the standard library that nobody asks about."""
_BOMS: Final = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


class Skipped(NamedTuple):
    """A file or folder that is not learned, and why."""

    path: str
    why: str


class Read(NamedTuple):
    """A file as it is: what tells whether it is known, and how to find out what it holds."""

    path: str
    digest: str
    find: Callable[[], Findings]


def standard_library() -> Path:
    """The folder of the standard library of the Python that runs."""
    return Path(sysconfig.get_path("stdlib")).resolve()


@dataclass(slots=True)
class Walk:
    """The files below a path, in a fixed order.

    `skipped` tells of what cannot be learned; `closed` are folders nobody could look into: what is
    known of files in them stays.
    """

    root: Path
    leaves_out: frozenset[str] = _FOREIGN
    skipped: list[Skipped] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """The paths that are there, whether they can be learned or not."""
    _packages: dict[Path, str] = field(default_factory=dict)

    def files(self) -> Iterator[Read]:
        """What can be read, one by one."""
        for path in self._paths():
            shown = _shown(path)
            if shown is None:
                self._skip(path, "its name is no text, or too long")
                continue
            if len(self.seen) >= FILES_MAX:
                self._skip(path, f"there are more than {FILES_MAX:,} files")
                self.closed.append(str(self.root))  # what was not looked at is not gone
                return
            self.seen.add(shown)
            try:
                yield self._read(path, shown)
            except (OSError, Unlearnable) as error:
                self._skip(path, _why(error))

    def skip(self, path: str, why: str) -> None:
        """Tell of a file that cannot be learned."""
        self.skipped.append(Skipped(path, why))

    def is_kept(self, path: str) -> bool:
        """Whether a file that is known is there, or may be."""
        return path in self.seen or any(_is_in(path, folder) for folder in self.closed)

    def _paths(self) -> Iterator[Path]:
        if not self.root.is_dir():
            if os.path.lexists(self.root):
                yield self.root
            return
        for folder, folders, names in os.walk(self.root, onerror=self._closed):
            folders[:] = sorted(it for it in folders if self._is_entered(Path(folder, it)))
            for name in sorted(names):
                if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                    yield Path(folder, name)

    def _is_entered(self, folder: Path) -> bool:
        if folder.name.startswith(".") or folder.name in self.leaves_out:
            return False
        return not (folder / "pyvenv.cfg").exists()

    def _closed(self, error: OSError) -> None:
        self.closed.append(str(error.filename))
        self._skip(Path(error.filename), _why(error))

    def _skip(self, path: Path, why: str) -> None:
        self.skip(str(path).encode("utf-8", "replace").decode(), why)

    def _read(self, path: Path, shown: str) -> Read:
        content = _content(path)
        suffix = path.suffix.lower()
        if suffix in PYTHON:
            title, is_package = self._module(path), path.stem == "__init__"
            if not content and not is_package:
                raise Unlearnable("empty")
            return Read(
                shown,
                digest_of(title, content),
                lambda: found_in_python(title, content, is_package=is_package),
            )
        if not content.strip():
            raise Unlearnable("empty")
        title, text = path.stem, _decoded(content)
        find = found_in_markdown if suffix in MARKDOWN else found_in_text
        return Read(shown, digest_of(title, content), lambda: find(title, text))

    def _module(self, path: Path) -> str:
        """The dotted name under which Python would import it."""
        package = self._package(path.parent)
        names = [it for it in (package, path.stem) if it and it != "__init__"]
        return ".".join(names) or path.parent.name

    def _package(self, folder: Path) -> str:
        """The dotted name of a folder, as far up as there are packages; empty when it is none."""
        if folder not in self._packages:
            is_package = (folder / "__init__.py").is_file() and folder.parent != folder
            above = self._package(folder.parent) if is_package else ""
            name = f"{above}.{folder.name}" if above else folder.name
            self._packages[folder] = name if is_package else ""
        return self._packages[folder]


_SUFFIXES: Final = PYTHON | MARKDOWN | TEXT


def walks(paths: list[Path]) -> list[Walk]:
    """One walk for each path; of the standard library without its tests, when none is given."""
    if not paths:
        return [Walk(standard_library(), _FOREIGN | _TESTS)]
    return [Walk(Path(os.path.abspath(it))) for it in paths]


def _content(path: Path) -> bytes:
    """The bytes of a plain file, not too many. Raises Unlearnable, OSError."""
    # Neither does a pipe hold us up, nor does a link lead out of the folder.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise Unlearnable("no plain file")
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise Unlearnable(f"larger than {FILE_BYTES_MAX >> 20} MiB")
    if b"\0" in content and content[:2] not in _BOMS:
        raise Unlearnable("binary")
    return content


def _decoded(content: bytes) -> str:
    encoding = next((it for bom, it in _BOMS.items() if content.startswith(bom)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Unlearnable(f"no {encoding.removesuffix('-sig').upper()}") from error


def _shown(path: Path) -> str | None:
    """The path as truth holds it, or None when it cannot."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text if len(text) <= PATH_MAX else None


def _why(error: OSError | Unlearnable) -> str:
    if isinstance(error, Unlearnable):
        return str(error)
    return (
        "a symbolic link" if error.errno == errno.ELOOP else (error.strerror or str(error)).lower()
    )


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
