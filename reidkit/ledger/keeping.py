"""Results that are kept: demo runs by `make notebooks` (data/demo/<name>.json), long ones as data/long/<name>.csv,
a small CSV that says where it comes from.

# date: 2026-11-21
# profile: long
# seeds: 0, 1, 2, 3, 4
variant,seed,mAP,seconds
baseline,0,0.4312,61.2
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from reidkit.results import environment, write_text
from reidkit.runs import code_hash

from .names import LedgerError, find, nearby

LONG, DEMO = "long", "demo"  # the folders inside data/
ADDED = ("date", "code", "versions", "machine")


def store(frame: pd.DataFrame, path: str | Path, /, **provenance) -> Path:
    """Write results as a CSV that begins with its provenance, one `# key: value` a line; whole or not at all.

    frame
        Say what `ablate` returned: a number, a text or nothing in every cell. Numbers keep six digits; a named index
        becomes columns.
    path
        Say "data/long/02_ccsc.csv"; folders are made.
    provenance
        What made it: profile, dataset, seeds, settings, hours. Date, code (a hash of the kit's files), versions and
        machine are added where not given.

    Returns the path. Raises LedgerError, and writes nothing, for an empty table, an array in a cell, or a table whose
    first column begins with "#".
    """
    path = Path(path)
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    if frame.empty:
        raise LedgerError(f"{path}: there are no results to store")
    for column in frame:
        if frame[column].map(lambda cell: np.ndim(cell) > 0 or isinstance(cell, dict | set)).any():
            raise LedgerError(f"{path}: column {column!r} holds arrays; drop it: a stored table has one value a cell")
    if str(frame.columns[0]).startswith("#"):
        raise LedgerError(f"{path}: the first column is {frame.columns[0]!r}; a line that begins with # is provenance")
    known = environment()
    given = {name: value for name, value in provenance.items() if value is not None}
    lines = {
        "date": known["date"][:10],
        **given,
        "code": given.get("code", code_hash()),
        "versions": given.get("versions", known["versions"]),
        "machine": given.get("machine", machine(known["machine"])),
    }
    head = "".join(f"# {key}: {_text(value)}\n" for key, value in lines.items())
    text = head + frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def machine(known: Mapping) -> str:
    """What `results.environment` knows of a machine, in words."""
    return f"{known['cores']} cores of {known['processor']}, {known['system']}"


def stored(name: str, *, data: str | Path | None = None) -> pd.DataFrame:
    """The results stored under `name`, say stored("02_ccsc"), of data/long/02_ccsc.csv.

    `frame.attrs["provenance"]` holds its provenance as text by key, `frame.attrs["date"]` the date among it.
    `data` is the data folder, or the file; by default the repository's data/, else data/ in the working directory.
    LedgerError when there is none (`is_stored` asks first), or when it says no date.
    """
    path = _place(name, data)
    if path is None:
        raise LedgerError(f"no long results are stored as {name!r}; {nearby(_names(data), name)}")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    notes = [re.fullmatch(r"#\s*([^:]+?)\s*:\s*(.*?)\s*", line) for line in lines[:count]]
    provenance = {note[1]: note[2] for note in notes if note}
    if "date" not in provenance:
        raise LedgerError(f"{path} does not begin with its provenance (`# date: …`); `store` writes it")
    try:
        # "None" or "NA" may well be a row's name: only an empty cell is a missing one
        frame = pd.read_csv(io.StringIO("".join(lines[count:])), keep_default_na=False, na_values=[""])
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise LedgerError(f"{path} cannot be read as CSV below its provenance ({error})") from None
    frame.attrs |= {"date": provenance["date"], "provenance": provenance, "name": path.stem}
    return frame


def is_stored(name: str, *, data: str | Path | None = None) -> bool:
    """Whether `stored` would find results of this name."""
    return _place(name, data) is not None


def committed(name: str, *, data: str | Path | None = None) -> pd.DataFrame:
    """The rows of the demo run that is kept under `name`, say committed("02_ccsc"), of data/demo/02_ccsc.json.

    `frame.attrs` holds its date, its parameters, and the notebook's own `verdicts` (a list of rows, since pandas
    compares attrs and a DataFrame among them breaks `concat`; None if it judged nothing). LedgerError when there is
    none; `is_committed` asks first.
    """
    if not is_committed(name, data=data):
        raise LedgerError(f"no demo run is kept as {name!r}: `make notebooks` keeps data/{DEMO}/{name}.json")
    file = find(f"{DEMO}/{name}.json", data)
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        frame = pd.DataFrame(results["rows"])
        frame.attrs |= {"name": name, "date": results["environment"]["date"][:10]}
        frame.attrs |= {"parameters": results.get("run", {}).get("parameters", {})}
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{file} is no kept run ({type(error).__name__}: {error}); `make notebooks` makes it"
        ) from None
    frame.attrs |= {"verdicts": results.get("verdicts")}
    return frame


def is_committed(name: str, *, data: str | Path | None = None) -> bool:
    """Whether `committed` would find a demo run of this name."""
    try:
        return find(f"{DEMO}/{name}.json", data).is_file()
    except LedgerError:
        return False


def stamp(frame: pd.DataFrame, *keys: str) -> str:
    """Where a stored table comes from, in a sentence to print above it: "stored, 2026-11-21: profile long, seeds 0, 1."

    `keys` are those of its provenance to tell, by default all that `store` was given but the date.
    """
    provenance = frame.attrs.get("provenance")
    if not provenance:
        raise LedgerError("this table has no provenance: only one that `stored` returned has")
    if missing := [key for key in keys if key not in provenance]:
        raise LedgerError(f"the provenance says nothing of {missing[0]!r}; {nearby(provenance, missing[0])}")
    keys = keys or [key for key in provenance if key not in ADDED]
    told = "; ".join(f"{key} {provenance[key]}" for key in keys)
    return f"stored, {provenance['date']}{': ' if told else ''}{told}."


def _place(name: str, data: str | Path | None) -> Path | None:
    try:
        return find(f"{LONG}/{name}.csv", data)
    except LedgerError:
        return None


def _names(data: str | Path | None) -> list[str]:
    """What is stored."""
    folders = [Path(__file__).resolve().parents[2] / "data", Path("data")] if data is None else [Path(data)]
    return sorted({path.stem for folder in folders for path in (folder / LONG).glob("*.csv")})


def _text(value: object) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    elif isinstance(value, list | tuple | range):
        value = ", ".join(map(_text, value))
    elif not isinstance(value, str):
        value = json.dumps(value, default=str)
    return " ".join(value.split())
