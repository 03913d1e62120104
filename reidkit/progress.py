"""Progress bars that leave nothing behind, in a terminal and in a notebook.

A notebook's widget bar stays in the saved file as a dead view at 0 %; a text bar on stderr as all that it ever wrote.
Here a notebook's bar is one output, rewritten in place and empty at the end, so that a stored notebook is the same
after every run. Nothing is shown where stderr is not a terminal, or where TQDM_DISABLE is set (worker processes).

And prose that a notebook prints, between words and not through them.
"""

from __future__ import annotations

import os
import sys
import textwrap

from tqdm import tqdm


def bar(total: int, desc: str, unit: str, *, show: bool = True, initial: int = 0, delay: float = 0) -> tqdm:
    """A tqdm bar (`update`, `set_postfix`, a context manager) that vanishes when closed; the first `delay` seconds pass
    without it."""
    where = {"total": total, "desc": desc, "unit": unit, "initial": initial, "delay": delay, "leave": False}
    if not show or os.environ.get("TQDM_DISABLE"):
        return tqdm(**where, disable=True)
    if not _in_kernel():
        return tqdm(**where, disable=None)  # None: only where stderr is a terminal
    return tqdm(**where, file=_Line(), mininterval=0.5, ncols=100, disable=False)


def tell(*words: object) -> None:
    """Print prose in lines of at most 100 characters, broken between words: JupyterLab breaks a longer line anywhere,
    in the middle of a number too. Lines of their own stay so, and what is indented stays indented."""
    for line in " ".join(map(str, words)).split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        print(textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


class _Line:
    """A file of one line: what is written to it replaces what stood there. Without a word it is no output at all."""

    encoding, handle = "utf-8", None

    def write(self, text: str) -> None:
        if self.handle is None:
            from IPython.display import display

            self.handle = display({"text/plain": ""}, raw=True, display_id=True)
        self.handle.update({"text/plain": text.strip("\r\n ")}, raw=True)

    def flush(self) -> None:
        pass
