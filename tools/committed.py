"""The committed numbers: what `make notebooks` keeps and `make verify` compares a fresh run with.

    python tools/committed.py keep [NN …] [--runs DIR]    demo runs: outputs to notebooks/, numbers to data/demo/
    python tools/committed.py verify [NN …] [--runs DIR]  demo runs beside data/demo/; status 1 where they differ

data/demo/NN_name.json is the run's results.json, as far as it is numbers: rows, seconds by section, what ran where.

Two runs agree when every number does: to 1e-3 on the same machine (processor, threads and versions alike); elsewhere to
three standard deviations over seeds, the spread pooled over the table's rows, for other processors round otherwise and
training makes the difference grow. Of thousands of numbers some always lie further apart: the share to expect, if
another machine were only another seed, is printed beside theirs. Times are not compared. A row of one seed is counted
as not judged.
"""

import argparse
import json
import math
import os
import sys
from pathlib import Path

import pandas as pd
from pair import ROOT, keep_outputs

from reidkit.results import metrics_of, write_json
from reidkit.runs import all_notebooks, find_notebook, prepare

CLOSE, SPREADS = 1e-3, 3.0
KEPT = ("schema", "rows", "verdicts", "sections", "paper", "environment", "run")


def keep(notebook: Path, folder: Path, numbers: Path) -> None:
    """Take the outputs and the numbers of the finished run in `folder` home. Both or, after an error, neither."""
    executed = (folder / notebook.name).read_text(encoding="utf-8")
    text = keep_outputs(executed, notebook.read_text(encoding="utf-8"))
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    partial = notebook.with_name(f".{notebook.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        numbers.mkdir(parents=True, exist_ok=True)
        write_json(numbers / f"{notebook.stem}.json", {name: results[name] for name in KEPT if name in results})
        os.replace(partial, notebook)
    finally:
        partial.unlink(missing_ok=True)


def same_machine(first: dict, second: dict) -> bool:
    """Whether two results come from like machines: what rounding depends on."""

    def telling(results: dict) -> tuple:
        environment = results["environment"]
        versions = {name: n for name, n in environment["versions"].items() if name not in ("python", "reidkit")}
        machine = environment["machine"]
        return versions, [machine.get(name) for name in ("system", "processor", "threads", "accelerator")]

    return telling(first) == telling(second)


def compare(committed: dict, fresh: dict) -> tuple[list[str], str]:
    """(differences, in words; what was compared how). Both are results, as in results.json."""
    parameters = committed["run"]["parameters"]
    if parameters != fresh["run"]["parameters"]:
        return [f"other parameters: {parameters} against {fresh['run']['parameters']}"], "not compared"
    old, new = (pd.DataFrame(results["rows"]) for results in (committed, fresh))
    keys, metrics = metrics_of(old, parameters)
    named = [column for column in old.columns if column in (*keys, "seed")]
    if missing := [column for column in (*named, *metrics) if column not in new]:
        return [f"the fresh rows have no column {', '.join(missing)}"], "not compared"
    names = [
        [", ".join(f"{row[column]}" for column in named) for row in frame.to_dict("records")] for frame in (old, new)
    ]
    if names[0] != names[1]:
        only = [sorted(set(a) - set(b)) for a, b in (names, names[::-1])]
        return [f"other rows: only committed {only[0]}, only fresh {only[1]}"], "not compared"
    alike = same_machine(committed, fresh)
    differences, judged, left = [], 0, 0
    for metric in metrics:
        tolerance = pd.Series(CLOSE, index=old.index)
        if not alike:
            spread = old.groupby(keys, dropna=False)[metric].var().mean() ** 0.5 if keys else old[metric].std()
            tolerance[:] = max(CLOSE, SPREADS * spread) if pd.notna(spread) else float("nan")
        for name, was, now, limit in zip(names[0], old[metric], pd.to_numeric(new[metric]), tolerance, strict=True):
            if pd.isna(was) and pd.isna(now):
                judged += 1
            elif pd.isna(limit):
                left += 1
            else:
                judged += 1
                if pd.isna(was) or pd.isna(now) or abs(was - now) > limit:
                    apart = f"{was:.4f} committed, {now:.4f} now, more than {limit:.4f} apart"
                    differences.append(f"{name}, {metric}: {apart}")
    how = "to 1e-3 (same machine)" if alike else "to three standard deviations over seeds (another machine or versions)"
    if differences and not alike:  # two normal draws of one spread
        share, chance = len(differences) / judged, math.erfc(SPREADS / 2)
        how += f"; {share:.1%} lie further apart (of two seeds on one machine {chance:.1%} would)"
    return differences, f"{judged} numbers compared {how}" + (f", {left} not judged: one seed" if left else "")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "verify"])
    parser.add_argument("notebook", nargs="*", default=["all"], help="numbers or names; without any, or all: every one")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are (default: runs)")
    parser.add_argument("--profile", default="demo", help=argparse.SUPPRESS)
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help=argparse.SUPPRESS)
    parser.add_argument("--numbers", type=Path, default=ROOT / "data" / "demo", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    status = 0
    named = [find_notebook(name, args.notebooks) for name in args.notebook if name != "all"]
    for notebook in named or all_notebooks(args.notebooks):
        name, stored = notebook.stem, args.numbers / f"{notebook.stem}.json"
        run = prepare(notebook, {"profile": args.profile}, args.runs)
        if not run.finished:
            print(f"{name}: no finished {args.profile} run of this very notebook and code in {args.runs}")
            status = 1
        elif args.what == "keep":
            keep(notebook, run.folder, args.numbers)
            print(f"{name}: outputs and numbers kept")
        elif not stored.is_file():
            print(f"{name}: nothing committed to compare with ({stored.name}; `make notebooks` keeps it)")
            status = 1
        else:
            committed = json.loads(stored.read_text(encoding="utf-8"))
            fresh = json.loads((run.folder / "results.json").read_text(encoding="utf-8"))
            differences, compared = compare(committed, fresh)
            print(f"{name}: {'DIFFERS' if differences else 'agrees'}; {compared}")
            if committed["run"]["notebook_hash"] != fresh["run"]["notebook_hash"]:
                print("    the notebook's text has changed since its numbers were committed")
            for line in differences:
                print(f"    {line}")
            status = status or int(bool(differences))
    return status


if __name__ == "__main__":
    sys.exit(main())
