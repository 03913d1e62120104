"""What lies in runs/: finished runs, failed ones, those that go on; and which of them make one table.

Runs that differ in their seeds alone are one table. Runs of different versions of the code never are: the newest
counts. A notebook joins by having run; its results may hold its `verdicts`, or name the `paper` it is about
(save_results(…, paper="ccsc")); else the paper is the one whose claims its rows can test.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from reidkit import ledger
from reidkit.runs import PROFILES

JUDGED = ("id", "paper", "statement", "better", "worse", "metric", "verdict", "why")  # of `verdicts`, beside numbers


@dataclass(frozen=True)
class Finished:
    folder: Path
    results: dict

    @property
    def record(self) -> dict:
        return self.results["run"]

    @property
    def date(self) -> str:
        return self.results["environment"]["date"]

    @property
    def notebook(self) -> Path:
        return self.folder / f"{self.record['notebook']}.ipynb"


@dataclass(frozen=True)
class Group:
    """Runs of one notebook, profile, data set, code and set of parameters; only their seeds differ."""

    runs: list[Finished]
    newest: bool  # no group differs from this one in code alone, and is younger

    @property
    def record(self) -> dict:
        return self.runs[0].record

    @property
    def date(self) -> str:
        return max(run.date for run in self.runs)

    @property
    def settings(self) -> dict:
        """The parameters that are no part of the title."""
        apart = ("profile", "dataset", "seeds")
        return {name: value for name, value in self.record["parameters"].items() if name not in apart}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows of all runs; of a row and seed that several runs have, the youngest run's."""
        frames, known = [], set()
        for run in sorted(self.runs, key=lambda run: run.date, reverse=True):
            frame = pd.DataFrame(run.results["rows"])
            if {"variant", "seed"} <= set(frame.columns):
                pairs = list(zip(frame["variant"], frame["seed"], strict=True))
                frame = frame[[pair not in known for pair in pairs]]
                known.update(pairs)
            frames.append(frame)
        return pd.concat(frames[::-1], ignore_index=True)

    @cached_property
    def verdicts(self) -> tuple[dict[str, pd.DataFrame], str]:
        """The verdicts on the claims of each paper that it is about, by paper; and what went wrong instead, if it did.

        Those that its one run has saved, which may rest on more than its rows; else those that all rows together
        license. The papers are those that its results name, else those whose claims name two of its rows.
        """
        said = self.runs[-1].results
        try:
            if len(self.runs) == 1 and said.get("verdicts"):
                saved = pd.DataFrame(said["verdicts"])
                numbers = ["n", "difference", "low", "high"]
                if missing := [column for column in (*JUDGED, *numbers) if column not in saved]:
                    raise ValueError(f"no column {missing[0]!r}")
                saved[numbers] = saved[numbers].apply(pd.to_numeric).astype(dict.fromkeys(numbers[1:], float))
                for paper in saved["paper"].unique():
                    ledger.claims(paper)  # a paper that nobody knows is said
                return dict(list(saved.groupby("paper", sort=False))), ""
            if not {"variant", "seed"} <= set(self.frame.columns):
                return {}, ""
            papers = said.get("paper") or self._testable()
            papers = [papers] if isinstance(papers, str) else papers
            return {paper: ledger.verdicts(self.frame, ledger.claims(paper)) for paper in papers}, ""
        except ledger.LedgerError as error:
            return {}, str(error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return {}, f"what the notebook saved as verdicts is not a table of them ({type(error).__name__}: {error})"

    def _testable(self) -> list[str]:
        claims, rows = ledger.claims(), set(self.frame["variant"].map(ledger.fold))
        named = claims["better"].map(ledger.fold).isin(rows) & claims["worse"].map(ledger.fold).isin(rows)
        return list(claims[named]["paper"].unique())


@dataclass(frozen=True)
class Gathered:
    out: Path
    finished: list[Finished]
    failed: list[tuple[Path, str]]  # folder, the last words of its log
    unreadable: list[tuple[Path, str]]
    running: list[Path]  # notebooks, executed so far
    groups: list[Group] = field(default_factory=list)


def gather(out: str | Path) -> Gathered:
    """Every run under `out`, finished or failed."""
    finished, failed, unreadable = [], [], []
    for folder in sorted(path for path in Path(out).glob("*/*") if path.is_dir() and not path.name.startswith(".")):
        if folder.name.endswith(".failed"):
            failed.append((folder, _last_words(folder / "log.txt")))
        elif (folder / "results.json").is_file():
            try:
                results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
                _check(results)
                finished.append(Finished(folder, results))
            except (OSError, ValueError, KeyError, TypeError) as error:
                unreadable.append((folder, f"{type(error).__name__}: {error}"))
    running = sorted(Path(out).glob("*/.*.part/*.ipynb"))
    return Gathered(Path(out), finished, failed, unreadable, running, _groups(finished))


def _check(results: dict) -> None:
    """Raises KeyError or TypeError that names what the page needs and a results.json lacks, or has of another kind."""
    word = str | None
    for place, kinds in {
        "environment": {"date": str, "versions": dict, "machine": dict},
        "run": {"notebook": str, "notebook_hash": str, "code_hash": str, "parameters": dict}
        | {"profile": word, "dataset": word, "dataset_fingerprint": word},
    }.items():
        _kind(results[place], dict, place)
        for name, kind in kinds.items():
            _kind(results[place][name], kind, f"{place}, {name}")
    for name, kind in {"seconds": int | float | None, "commit": word}.items():  # may be left out
        _kind(results["run"].get(name), kind, f"run, {name}")
    for name, seconds in _kind(results.get("sections") or {}, dict, "sections").items():
        _kind(seconds, int | float, f"sections, {name}")
    for row in _kind(results["rows"], list, "rows"):
        for name in ("variant", "seed"):
            _kind(_kind(row, dict, "a row").get(name), str | int | float | None, f"rows, {name}")


def _kind(value: object, kind: type, name: str) -> object:
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {type(value).__name__}")
    return value


def _groups(finished: Sequence[Finished]) -> list[Group]:
    made, alike = {}, {}
    for run in finished:
        record = run.record
        settings = {name: value for name, value in record["parameters"].items() if name != "seeds"}
        same_but_code = json.dumps([record["notebook"], record["dataset_fingerprint"], settings], sort_keys=True)
        code = (record["code_hash"], record["notebook_hash"], record.get("ledger_hash"))
        made.setdefault((same_but_code, code), []).append(run)
        alike[same_but_code] = max(alike.get(same_but_code, ("", code)), (run.date, code), key=lambda each: each[0])
    groups = [Group(runs, alike[same][1] == code) for (same, code), runs in made.items()]

    def order(group: Group) -> tuple:
        record = group.record
        rank = PROFILES.index(record["profile"]) if record["profile"] in PROFILES else len(PROFILES)
        # the profile that means most first: paper, long, demo, smoke
        return record["notebook"], not group.newest, -rank, str(record["dataset"]), json.dumps(group.settings)

    return sorted(groups, key=order)


def _last_words(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8")
    except OSError:
        return "no log"
    failed = [line for line in text.splitlines() if line.startswith(("failed in", "saved no results"))]
    return failed[-1] if failed else "no reason in its log"
