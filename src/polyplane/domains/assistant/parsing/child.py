"""`python -m polyplane.domains.assistant.parsing.child SETTINGS PARENT`: a process that reads.

Files come on its input, what they say goes to its output, in order. It ends when its input does,
when the process that started it is gone, or when a file takes more than it may.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
import warnings
from typing import BinaryIO

import orjson

from polyplane.domains.assistant.parsing.confinement import allow_cpu, confine
from polyplane.domains.assistant.parsing.parsed import Unreadable
from polyplane.domains.assistant.parsing.reading import read_one
from polyplane.domains.assistant.parsing.wire import LENGTH, answer_of, framed, settings_of


def main() -> None:
    """Read until there is nothing more to read."""
    options, limits = settings_of(sys.argv[1])
    answers = _only_output()
    warnings.simplefilter("ignore")
    logging.disable()
    is_filtered = confine(int(sys.argv[2]), limits.memory_bytes)
    gc.freeze()
    answers.write(framed(orjson.dumps({"is_filtered": is_filtered})))
    answers.flush()
    asked = sys.stdin.buffer
    while names := _frame(asked):
        for name, media_type, size in orjson.loads(names):
            content = _exactly(asked, size)
            # Both end the process, whatever it is in: no exception could be raised in a library.
            signal.setitimer(signal.ITIMER_REAL, limits.wall_s)
            allow_cpu(time.process_time() + limits.cpu_s)
            result = read_one(name, media_type, content, options, limits)
            answers.write(answer_of(result))
            answers.flush()
            signal.setitimer(signal.ITIMER_REAL, 0)
            if isinstance(result, Unreadable) and result.code == "memory":
                return  # what is left of it is in the way of the next


def _only_output() -> BinaryIO:
    """Our output, which no library can write to: what those print goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def _frame(asked: BinaryIO) -> bytes | None:
    head = asked.read(LENGTH.size)
    return _exactly(asked, LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None


def _exactly(asked: BinaryIO, size: int) -> bytes:
    content = asked.read(size)
    if len(content) < size:
        os._exit(0)  # who asked is gone
    return content


if __name__ == "__main__":
    main()
