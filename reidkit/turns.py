"""One process at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def turn(path: Path, *, wait: bool = True, told: bool = False) -> Iterator[None]:
    """One process at a time at `path`, a file or folder that may not be there yet; `told`: a word on stderr to those
    who wait. The lock, beside it, falls with its process, however that ends. Raises Timeout where `wait` is False and
    another process has it."""
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        if told:
            print(f"{path.name}: another process is at it; waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # those who wait notice, and make a new one
        lock.release()
