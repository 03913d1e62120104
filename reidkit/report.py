"""The page of results: whatever lies in runs/, as one HTML file that needs no network, and one CSV.

What is gathered, and which runs make one table: reidkit/gathering.py.
"""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import nbformat
import pandas as pd

from reidkit import ledger
from reidkit.gathering import Finished, Gathered, Group, gather
from reidkit.ledger.names import shown_as
from reidkit.outcomes import duration
from reidkit.parameters import ParameterError
from reidkit.results import metrics_of, write_text
from reidkit.runs import code_hash, failed_rows

CSV_COLUMNS = (
    *("kind", "notebook", "paper", "dataset", "profile", "parameters", "code", "date"),
    *("name", "metric", "mean", "std", "seeds", "low", "high", "verdict", "reported_on", "reported_percent"),
)


@dataclass(frozen=True)
class Report:
    """What was written, and from how much."""

    page: Path
    csv: Path
    finished: int
    failed: int
    unreadable: int


def write_report(out: str | Path = "runs", page: str | Path | None = None) -> Report:
    """Gather the runs under `out` into `page` (default: out/report.html) and a CSV beside it, of the same name.

    Runs that cannot be shown, whatever their notebook has saved, are named on the page and do not stop it. A
    ParameterError for a page of another ending.
    """
    page = Path(page or Path(out) / "report.html").resolve()
    if page.suffix != ".html" or page.is_dir():
        raise ParameterError(
            f"the page {page} must be a file that ends in .html: its numbers go into one in .csv beside it"
        )
    gathered = gather(out)
    page.parent.mkdir(parents=True, exist_ok=True)
    csv = page.with_suffix(".csv")
    here, rows, sections, unreadable = code_hash(), [], [], {}
    for group in gathered.groups:
        try:
            told, section = csv_rows(group), _section(group, here, page.parent)
        except Exception as error:
            unreadable |= {run.folder: f"{type(error).__name__}: {error}" for run in group.runs}
        else:
            rows += told
            sections.append((group, section))
    gathered = replace(
        gathered,
        finished=[run for run in gathered.finished if run.folder not in unreadable],
        unreadable=gathered.unreadable + list(unreadable.items()),
        groups=[group for group, _ in sections],
    )
    write_text(csv, pd.DataFrame(rows, columns=CSV_COLUMNS).to_csv(index=False, float_format="%.6g"))
    write_text(page, _render(gathered, sections, here, page.parent))
    return Report(page, csv, len(gathered.finished), len(gathered.failed), len(gathered.unreadable))


# tables ---------------------------------------------------------------------------------------------------------------


def ours(group: Group) -> pd.DataFrame:
    """Long: name, metric, mean, std, seeds. A row is known by its `variant`, else by all that is text in it."""
    frame = group.frame
    keys, metrics = metrics_of(frame, group.record["parameters"])
    if "error" in frame:
        frame = frame[frame["error"].isna()]
    names = frame[keys].astype(str).agg(", ".join, axis=1) if keys else pd.Series("all", index=frame.index)
    rows = []
    for name in names.unique():
        for metric in metrics:
            values = pd.to_numeric(frame.loc[names == name, metric], errors="coerce").dropna()
            rows.append(
                {"name": name, "metric": metric, "mean": values.mean(), "std": values.std(), "seeds": len(values)}
            )
    return pd.DataFrame(rows, columns=["name", "metric", "mean", "std", "seeds"])


def printed_on(group: Group, paper: str) -> list[str]:
    """The data sets whose printed numbers stand beside ours: the same one, else those of the paper's claims."""
    printed = set(_as_printed(paper)["dataset"])
    if group.record["dataset"] in printed:
        return [group.record["dataset"]]
    return [dataset for dataset in ledger.claims(paper)["dataset"].unique() if dataset in printed]


def csv_rows(group: Group) -> list[dict]:
    """Ours beside what was reported (kind row), and the verdicts (kind claim)."""
    record = group.record
    common = {
        "notebook": record["notebook"],
        "paper": "",
        "dataset": record["dataset"],
        "profile": record["profile"],
        "parameters": json.dumps(group.settings),
        "code": record["code_hash"],
        "date": group.date,
    }
    rows, (verdicts, _) = [], group.verdicts
    printed = {paper: _printed(paper, printed_on(group, paper)) for paper in verdicts}
    for row in ours(group).to_dict("records"):
        number = ledger.fold(row["name"]), ledger.fold(row["metric"])
        found = [{"paper": paper} | place for paper in printed for place in printed[paper].get(number, [])]
        rows += [common | {"kind": "row"} | row | place for place in found or [{}]]
    for paper, verdict in verdicts.items():
        for row in verdict.to_dict("records"):
            told = {"name": row["id"], "mean": row["difference"], "seeds": row["n"], "paper": paper}
            kept = {name: row[name] for name in ("metric", "low", "high", "verdict")}
            rows.append(common | {"kind": "claim"} | kept | told)
    return rows


def _printed(paper: str, datasets: Sequence[str]) -> dict[tuple[str, str], list[dict]]:
    """What a paper prints on some data sets: method and metric, folded -> where and what, once each."""
    printed, found = _as_printed(paper), {}
    for row in printed[printed["dataset"].isin(datasets)].to_dict("records"):
        places = found.setdefault((ledger.fold(row["method"]), ledger.fold(row["metric"])), [])
        place = {"reported_on": row["dataset"], "reported_percent": row["value"]}
        if place not in places:  # the same number stands in several tables
            places.append(place)
    return found


def _as_printed(paper: str) -> pd.DataFrame:
    """The paper's numbers, without those of a special setting; none of a paper that has claims only."""
    printed = ledger.reported()
    printed = printed[printed["paper"] == paper]
    return printed[printed["setting"] == ""] if "setting" in printed else printed


def _beside(group: Group, paper: str) -> list[tuple[str, str]]:
    """(data set, table as HTML), one a data set that the paper printed rows of ours on."""
    tables, frame = [], group.frame
    for dataset in printed_on(group, paper) if "variant" in frame else []:
        printed = _as_printed(paper)
        printed = printed[printed["dataset"] == dataset]
        ours = frame[frame["variant"].map(ledger.fold).isin(set(printed["method"].map(ledger.fold)))]
        numbers = metrics_of(ours, group.record["parameters"])[1]
        metrics = [metric for metric in numbers if ledger.fold(metric) in set(printed["metric"].map(ledger.fold))]
        if metrics:
            try:
                tables.append((dataset, _html(ledger.beside(ours, paper, dataset, metrics))))
            except ledger.LedgerError as error:  # a row that the paper prints with two numbers, say
                tables.append((dataset, f"<p class=note>{html.escape(str(error))}</p>"))
    return tables


def _wide(group: Group) -> str:
    """Ours as a table to be read: a row a name, a column a metric, mean ± standard deviation over seeds."""
    long = ours(group)
    if long.empty:
        return "<p class=note>its results have no rows of numbers</p>"
    shown = {}
    for row in long.to_dict("records"):
        shown.setdefault(row["name"], {})[row["metric"]] = _spread(row)
    table = pd.DataFrame.from_dict(shown, orient="index").fillna("–")
    table.insert(len(table.columns), "seeds", long.groupby("name", sort=False)["seeds"].max())
    return _html(table)


def _spread(row: dict) -> str:
    if pd.isna(row["mean"]):
        return "–"
    scale, digits = shown_as(row["metric"])
    spread = f" ± {scale * row['std']:.{digits}f}" if row["seeds"] > 1 else ""
    return f"{scale * row['mean']:.{digits}f}{spread}"


def _html(table: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None):
        return table.to_html(border=0, na_rep="–")


# the page -------------------------------------------------------------------------------------------------------------


def pictures(notebook: Path) -> list[dict]:
    """The pictures of an executed notebook: data (a data: address), heading above it, what is printed with it."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except (OSError, ValueError, AttributeError, KeyError):
        return []
    found, heading, pending = [], "", []
    for cell in cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#{1,4}\s+(.+)$", cell.source, re.MULTILINE)
            heading = headings[-1].strip() if headings else heading
        elif cell.cell_type == "code":
            printed = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout").strip()
            new = [_picture(output, heading) for output in cell.outputs if "data" in output]
            new = [picture for picture in new if picture]
            for picture in new or pending:  # said in the same cell, or in the next
                picture["printed"] = picture["printed"] or printed
            found += new
            pending = new
    return found


def _picture(output, heading: str) -> dict | None:
    for kind in ("image/png", "image/jpeg"):
        if kind in output.data:
            data = "".join(output.data[kind].split())
            return {"data": f"data:{kind};base64,{data}", "heading": heading, "printed": ""}
    return None


def title_of(run: Finished) -> str:
    """The notebook's first heading; its name where there is none."""
    try:
        cells = nbformat.read(run.notebook, as_version=4).cells
    except (OSError, ValueError, AttributeError, KeyError):
        cells = []
    found = (re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE) for cell in cells if cell.cell_type == "markdown")
    return next((match[1].strip() for match in found if match), run.record["notebook"])


def _render(gathered: Gathered, sections: Sequence[tuple[Group, dict]], here: str, base: Path) -> str:
    """The page, as text. `base` is where it will lie: links to the runs are relative to it."""
    notebooks = {}
    for group, told in sections:
        name = group.record["notebook"]
        section = notebooks.setdefault(name, {"name": name, "title": title_of(group.runs[-1]), "groups": []})
        section["groups"].append(told)
    versions = {}
    for run in gathered.finished:
        versions.setdefault(run.record["code_hash"], []).append(run)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        made=datetime.now(UTC).isoformat(timespec="minutes"),
        out=gathered.out,
        notebooks=list(notebooks.values()),
        finished=len(gathered.finished),
        running=[{"name": path.stem, "pictures": pictures(path)} for path in gathered.running],
        failed=[(_relative(folder, base), why) for folder, why in gathered.failed],
        unreadable=[(_relative(folder / "results.json", base), why) for folder, why in gathered.unreadable],
        versions=[_version(code, runs, here) for code, runs in versions.items()],
    )


def _section(group: Group, here: str, base: Path) -> dict:
    run = group.runs[-1]
    verdicts, note = group.verdicts
    lacking = [lacks for each in group.runs if (lacks := failed_rows(each.results))]
    papers = [
        {"name": paper, "beside": _beside(group, paper), "verdicts": _html(ledger.show(verdict))}
        for paper, verdict in verdicts.items()
    ]
    return {
        "heading": f"{group.record['dataset'] or 'run'}, {group.record['profile'] or 'no'} profile",
        "settings": ", ".join(f"{name} = {value}" for name, value in group.settings.items()),
        "smoke": group.record["profile"] == "smoke",
        "newest": group.newest,
        "elsewhere": group.record["code_hash"] != here,
        "code": group.record["code_hash"],
        "table": _wide(group),
        "papers": papers,
        "note": note,
        "lacking": "; ".join(lacking),
        "pictures": pictures(run.notebook) if group.newest else [],
        "pictured": run.folder.name if len(group.runs) > 1 else "",
        "sections": {name: duration(seconds) for name, seconds in (run.results.get("sections") or {}).items()},
        "runs": [_line(each, base) for each in group.runs],
        "versions": ", ".join(f"{name} {number}" for name, number in run.results["environment"]["versions"].items()),
    }


def _line(run: Finished, base: Path) -> dict:
    record, machine = run.record, run.results["environment"]["machine"]
    return {
        "link": _relative(run.notebook, base),
        "name": run.folder.name,
        "date": run.date,
        "seconds": duration(record.get("seconds") or 0),
        "memory": record.get("peak_memory_mib"),
        "machine": machine.get("accelerator") or f"{machine.get('cores')} cores, {machine.get('processor')}",
        "commit": _commit(record),
    }


def _version(code: str, runs: Sequence[Finished], here: str) -> dict:
    commits = sorted({_commit(run.record) for run in runs})
    latest = max(run.date for run in runs)
    return {"code": code, "runs": len(runs), "commits": commits, "latest": latest, "here": code == here}


def _commit(record: dict) -> str:
    if not record.get("commit"):
        return "not in git"
    return record["commit"][:10] + (" with changes" if record.get("dirty") else "")


def _relative(path: Path, base: Path) -> str:
    path = path.resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_uri()
