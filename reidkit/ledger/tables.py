"""Tables for a notebook: ours beside the papers' numbers, and the verdicts."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .judging import the_metric
from .names import same, shown_as
from .papers import one_value, reported

UNBROKEN = re.compile(r"(?<=\d) ± (?=\d)|(?<=\d) \[(?=[-+\d])|(?<=\d), (?=[-+]?[\d.]+\])")  # spaces inside one number


class Table(pd.DataFrame):
    """A DataFrame that is shown whole, its long texts too; a mean and its spread or interval stay on one line."""

    @property
    def _constructor(self):  # what drop, rename_axis and the like make of it
        return Table

    def __repr__(self) -> str:
        with _whole():
            return super().__repr__()

    def _repr_html_(self) -> str:
        with _whole():
            return UNBROKEN.sub(lambda found: found[0].replace(" ", "&nbsp;"), super()._repr_html_())


def _whole() -> pd.option_context:
    names = ("display.max_colwidth", "display.max_columns", "display.max_rows")
    return pd.option_context("display.width", 10_000, *(part for name in names for part in (name, None)))


def beside(
    results: pd.DataFrame,
    paper: str,
    dataset: str,
    metrics: str | Sequence[str] = ("mAP", "rank1"),
    *,
    table: str | int | None = None,
    setting: str = "",
    printed_as: dict[str, str] | None = None,
    data: str | Path | None = None,
) -> Table:
    """Our mean ± standard deviation over seeds beside what the paper printed, a row a variant, in percent.

    results
        One row a variant and seed, as `ablate` returns them; rows that failed are left out.
    paper, dataset, table, setting
        Which printed numbers (see `reported`); `dataset` is the paper's, whatever ours was: with another dataset,
        backbone or length, compare the differences between rows and not their height.
    printed_as
        What the paper's table calls a row, where it has another name than ours there.

    Columns: (metric, "ours") text, (metric, dataset) text, "–" where the paper prints none, and ("seeds", ""): how
    many seeds the row has. Metrics that are no fractions of 1 are shown as they are. LedgerError for a metric that
    the results lack, a paper or dataset that reported.csv lacks, or a row printed with two different numbers.
    """
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    printed = reported(paper, dataset=dataset, table=table, setting=setting, data=data)
    columns = {metric: the_metric(results, metric) for metric in metrics}
    good = results[results["error"].isna()] if "error" in results else results
    rows = {}
    for variant in results["variant"].unique():
        ours = good[good["variant"] == variant]
        method = (printed_as or {}).get(variant, variant)
        row = {}
        for metric, column in columns.items():
            values = pd.to_numeric(ours[column], errors="coerce").astype(np.float64).dropna()
            found = printed[same(printed["method"], method)]
            found = found[same(found["metric"], metric)]
            row[metric, "ours"] = _spread(values, metric) if len(ours) else "failed"
            row[metric, dataset] = _printed(one_value(found, method, metric)) if len(found) else "–"
        row["seeds", ""] = ours["seed"].nunique()
        rows[variant] = row
    frame = Table(pd.DataFrame.from_dict(rows, orient="index"))
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame.rename_axis("variant")


def spread(results: pd.DataFrame, metrics: str | Sequence[str]) -> Table:
    """Mean ± standard deviation over seeds as text, fractions of 1 in percent, and how many seeds: a row a variant.

    results
        One row a variant and seed, as `ablate` returns them; rows that failed and values that are missing are left out,
        and a seed counts if it has any value.

    LedgerError for a metric that the results lack.
    """
    columns = {metric: the_metric(results, metric) for metric in ([metrics] if isinstance(metrics, str) else metrics)}
    good = results[results["error"].isna()] if "error" in results else results
    rows = {}
    for variant in results["variant"].unique():
        ours = good[good["variant"] == variant]
        values = ours[list(columns.values())].astype(np.float64).set_axis(list(columns), axis="columns")
        rows[variant] = {metric: _spread(values[metric].dropna(), metric) for metric in values}
        rows[variant]["seeds"] = ours["seed"][values.notna().any(axis="columns")].nunique()
    return Table(pd.DataFrame.from_dict(rows, orient="index")).rename_axis("variant")


def show(verdicts: pd.DataFrame) -> Table:
    """The verdicts to be read: a row a claim, with what it says, the rows compared, the difference in favour of the
    claim with its interval (points of percent for fractions of 1), and why, where it could not be tested."""
    rows = []
    for row in verdicts.to_dict("records"):
        tested = row["n"] > 0
        rows.append(
            {
                "claim": row["id"],
                "the paper says": row["statement"],
                "rows": f"{row['better']} against {row['worse']}, {row['metric']}",
                "difference, for the claim": _difference(row) if tested else "",
                "seeds": row["n"],
                "verdict": row["verdict"] + (f" ({row['why']})" if row["why"] else ""),
            }
        )
    columns = ["claim", "the paper says", "rows", "difference, for the claim", "seeds", "verdict"]
    return Table(pd.DataFrame(rows, columns=columns).set_index("claim"))


def _printed(value: float) -> str:
    """One decimal, or the two that some tables print."""
    return f"{value:.2f}".removesuffix("0")


def _spread(values: pd.Series, metric: str) -> str:
    if values.empty:
        return "–"
    scale, digits = shown_as(metric)
    spread = f" ± {scale * values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{spread}"


def _difference(row: dict) -> str:
    scale, digits = shown_as(row["metric"])
    mean, low, high = (f"{scale * row[part]:+.{digits}f}" for part in ("difference", "low", "high"))
    return f"{mean} [{low}, {high}]" if np.isfinite(row["low"]) else f"{mean}, one seed"
