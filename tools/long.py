"""The long results: a finished `long` run's rows -> data/long/NN_name.csv, with where they come from.

    python tools/long.py runs/02_ccsc/plaza__profile=long__1a2b3c4d [--note "…"]

A notebook shows them marked "stored, DATE" (reidkit.ledger.stored). Only numbers and texts are kept, empty columns are
left out, and further folders of the same notebook add their rows (the first to have a variant and seed keeps it).
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from reidkit import ledger

ROOT = Path(__file__).resolve().parents[1]


def rows_of(results: list[dict]) -> pd.DataFrame:
    """The rows of one run or several, one a variant and seed."""
    frame = pd.concat([pd.DataFrame(one["rows"]) for one in results], ignore_index=True)
    frame = frame.dropna(axis="columns", how="all")
    plain = [column for column in frame if not frame[column].map(lambda cell: isinstance(cell, list | dict)).any()]
    return frame[plain].drop_duplicates(["variant", "seed"])


def one_of(what: str, values: list) -> None:
    if len(different := sorted(set(values))) > 1:
        told = "; ".join(different)
        raise SystemExit(f"these runs have more than one {what}: {told}; a stored table has one: leave the others out")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="folders of finished runs of one notebook")
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "long", help=argparse.SUPPRESS)
    parser.add_argument("--note", help="what else a reader should know")
    args = parser.parse_args(argv)
    finished = [folder for folder in args.folders if (folder / "results.json").is_file()]
    for folder in sorted(set(args.folders) - set(finished)):
        print(f"left out, not finished: {folder}", file=sys.stderr)
    if not finished:
        raise SystemExit("none of these runs is finished")
    results = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in finished]
    runs = [one["run"] for one in results]
    machines = [ledger.machine(one["environment"]["machine"]) for one in results]
    for what in ("notebook", "profile", "dataset", "code_hash"):
        one_of(what, [run[what] for run in runs])
    one_of("machine", machines)
    frame, first = rows_of(results), results[0]
    path = ledger.store(
        frame,
        args.out / f"{Path(runs[0]['notebook']).stem}.csv",
        date=first["environment"]["date"][:10],
        profile=runs[0]["profile"],
        dataset=runs[0]["dataset"],
        seeds=sorted(int(seed) for seed in frame["seed"].unique()),
        hours=round(sum(run["seconds"] for run in runs) / 3600, 2),
        note=args.note,
        code=runs[0]["code_hash"],
        versions=first["environment"]["versions"],
        machine=machines[0],
    )
    print(f"{path}: {len(frame)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
