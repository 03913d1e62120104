"""What the papers say: their printed numbers (data/reported.csv) and their claims (data/claims.csv)."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .names import LedgerError, find, nearby, same

PAPERS = ("discriminative-embedding", "ccsc", "dcaml", "precise-ics", "pirid")
REPORTED = ("paper", "table", "dataset", "method", "metric", "value")
CLAIMS = ("id", "paper", "where", "statement", "dataset", "better", "worse", "metric")


def reported(
    paper: str | None = None,
    *,
    table: str | int | None = None,
    dataset: str | None = None,
    method: str | None = None,
    metric: str | None = None,
    setting: str | None = None,
    data: str | Path | None = None,
) -> pd.DataFrame:
    """The papers' printed numbers: paper, table, dataset, method, metric, value (float64; percent, as printed), and
    what further columns the file has.

    Every argument narrows the rows; setting="" asks for those without a special one. `data` is the file or its folder;
    by default the repository's data/, else data/ in the working directory. LedgerError names a bad line of the file,
    or an argument that matches nothing.
    """
    frame, path = _read("reported.csv", REPORTED, data)
    values = pd.to_numeric(frame["value"], errors="coerce").astype(np.float64)
    for line in frame.index[~np.isfinite(values)]:
        raise LedgerError(f"{path}, line {line}: value {frame['value'][line]!r} is not a number")
    wanted = {"paper": paper, "table": table, "dataset": dataset, "method": method, "metric": metric}
    return _narrow(frame.assign(value=values), wanted | {"setting": setting}, path).reset_index(drop=True)


def look_up(method: str, metric: str, **where) -> float:
    """One printed number, say look_up("baseline+CCSC", "mAP", paper="ccsc", dataset="market1501"), in percent.

    `where` are `reported`'s arguments. A number printed twice is one number. LedgerError when nothing matches, or when
    different numbers do: it lists them.
    """
    return one_value(reported(method=method, metric=metric, **where), method, metric)


def claims(paper: str | None = None, *, data: str | Path | None = None) -> pd.DataFrame:
    """The papers' claims that a run can test: id, paper, where, statement, dataset, better, worse, metric, and what
    further columns the file has, as text. `better` and `worse` name rows of a table of results.

    A column higher_is_better (true or false; bool here) says which way the claim goes: a paper may claim more of what
    another claims less of. `data` as in `reported`. LedgerError names the line: an id used twice, an unknown paper,
    an empty cell in a column named above, a row compared with itself.
    """
    frame, path = _read("claims.csv", CLAIMS, data)
    for line in frame.index[frame["id"].duplicated()]:
        first = frame.index[frame["id"] == frame["id"][line]][0]
        raise LedgerError(f"{path}, line {line}: the id {frame['id'][line]!r} is that of line {first} already")
    for line in frame.index[frame["better"] == frame["worse"]]:
        raise LedgerError(f"{path}, line {line}: better and worse are both {frame['better'][line]!r}")
    if "higher_is_better" in frame:
        way = frame["higher_is_better"].str.lower().map({"true": True, "false": False})
        for line in frame.index[way.isna()]:
            raise LedgerError(
                f"{path}, line {line}: higher_is_better is {frame['higher_is_better'][line]!r}, not true or false"
            )
        frame = frame.assign(higher_is_better=way.astype(bool))
    return _narrow(frame, {"paper": paper}, path).reset_index(drop=True)


def one_value(rows: pd.DataFrame, method: str, metric: str) -> float:
    """The value of `rows` of `reported`, of which there is at least one; LedgerError where they differ."""
    if rows["value"].nunique() > 1:
        telling = [column for column in rows if column != "value" and rows[column].nunique() > 1]
        each = [f"{row['value']:g} ({', '.join(f'{c} {row[c]!r}' for c in telling)})" for _, row in rows.iterrows()]
        raise LedgerError(f"{method!r}, {metric}, is printed as {', '.join(each)}: say which is meant")
    return float(rows["value"].iloc[0])


def _read(name: str, needed: Sequence[str], data: str | Path | None) -> tuple[pd.DataFrame, Path]:
    """A CSV of text, indexed by line number, every needed cell filled and every paper known."""
    path = find(name, data)
    rows, line = {}, 1
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            while True:
                line = reader.line_num + 1
                cells = next(reader, None)
                if cells is None:
                    break
                if cells:
                    rows[line] = [cell.strip() for cell in cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise LedgerError(f"{path}, line {line}: cannot be read as CSV in UTF-8 ({error})") from None
    if missing := [column for column in needed if column not in header]:
        raise LedgerError(f"{path}, line 1: no column {missing[0]!r}; it needs {', '.join(needed)}")
    if len(set(header)) < len(header):
        raise LedgerError(f"{path}, line 1: a column stands there twice: {', '.join(header)}")
    for line, cells in rows.items():
        if len(cells) != len(header):
            raise LedgerError(f"{path}, line {line}: {len(cells)} cells, {len(header)} columns; is a comma unquoted?")
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=header, dtype=str)
    for column in needed:
        for line in frame.index[frame[column] == ""]:
            raise LedgerError(f"{path}, line {line}: {column} is empty")
    for line in frame.index[~frame["paper"].isin(PAPERS)]:
        raise LedgerError(f"{path}, line {line}: paper {frame['paper'][line]!r} is none of {', '.join(PAPERS)}")
    return frame, path


def _narrow(frame: pd.DataFrame, wanted: Mapping, path: Path) -> pd.DataFrame:
    for column, value in wanted.items():
        if value is None:
            continue
        if column not in frame:
            raise LedgerError(f"{path} has no column {column!r}; it has {', '.join(frame.columns)}")
        kept = frame[same(frame[column], str(value))]
        if kept.empty:
            asked = [f"{c} {v}" for c, v in wanted.items() if v is not None and c != column]
            among = f" among {', '.join(asked)}" if asked else ""
            raise LedgerError(f"{path} has no {column} {str(value)!r}{among}; {nearby(frame[column].unique(), value)}")
        frame = kept
    return frame
