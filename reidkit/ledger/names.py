"""How the ledger's words find each other: rows, methods and metrics by name, files by place."""

import difflib
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pandas as pd

# How the names of metrics begin that are fractions of 1 and printed in percent.
FRACTIONS = ("map", "minp", "rank", "cmc", "precision", "recall", "accuracy", "r1", "pairmap", "trainmap")
FRACTIONS += ("traintestgap", "wrongsign", "activearea")


class LedgerError(ValueError):
    """Something is wrong with a table of the ledger, or with what was asked of it; the message says where and what."""


@lru_cache(maxsize=None, typed=True)
def fold(name: object) -> str:
    """A name without case, spaces and punctuation: fold("Softmax + CCSC") == "softmaxccsc". A point between digits is
    part of a number and stays."""
    text = unicodedata.normalize("NFKC", str(name)).casefold()
    return re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w.]|_", "", text) or text.strip()


def same(names: pd.Series, wanted: object) -> pd.Series:
    """Which of `names` mean `wanted` (bool, as long): those written exactly so if there are any, else those that fold
    to the same."""
    exact = names == wanted
    return exact if exact.any() else names.map(fold) == fold(wanted)


def nearby(names: Iterable, wanted: object) -> str:
    """For an error message: what there is instead, the likeliest first."""
    names = [str(name) for name in names]
    close = difflib.get_close_matches(str(wanted), names, n=5, cutoff=0.5)
    if close or len(names) > 12:
        return f"near it: {', '.join(close or names[:12])}"
    return f"there: {', '.join(names) or 'none'}"


def is_fraction(metric: object) -> bool:
    return fold(metric).startswith(FRACTIONS)


def shown_as(metric: object) -> tuple[int, int]:
    """How a number is shown: (factor, digits)."""
    return (100, 1) if is_fraction(metric) else (1, 3)


def find(name: str, data: str | Path | None) -> Path:
    """The file `name` of the repository's data/ (which no installed package holds), else of data/ in the working
    directory; or of the folder `data`; or the file `data` itself. LedgerError says where it was looked for."""
    if data is None:
        folders = [Path(__file__).resolve().parents[2] / "data", Path("data")]
    else:
        folders = [Path(data)]
    places = [folder if folder.suffix == ".csv" else folder / name for folder in folders]
    for place in places:
        if place.is_file():
            return place
    looked = " nor ".join(map(str, places))
    raise LedgerError(f"there is no {looked}; {name} comes with the repository: say where with data=…")
