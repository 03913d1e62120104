"""The headline figures as one chart, docs/speed.png, from the JSON files in benchmarks/results/.

    python benchmarks/_chart.py

How many times as long others take, on one core. A bar whose file is not there is left out; every number, the machine
and the day are in these files. Results beside peers (`*_peers.json`, see the scripts' --peers) give most of the bars.
"""

from __future__ import annotations

import json
from pathlib import Path

from _common import RESULTS

from reidkit.plots.style import COLOURS, Picture, styled

DOCS = Path(__file__).parent.parent / "docs"


def result(name: str) -> dict:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def retrieval() -> dict[str, float]:
    found = {}
    names = {"from_matrix": "metrics of a distance matrix", "from_features": "features to metrics"}
    for size, note in (("market", ""), ("market+500k", ", 500,000 distractors")):
        for source, rows in result(f"evaluate_{size}_peers").get("peers", {}).items():
            for name, row in rows.items():
                found[f"{names[source]}{note}: {name}"] = row["times_ours"]["fastest"]
    if "original" in (times := result("rerank_market_peers").get("times_ours", {})):
        found["re-ranking: the authors' code"] = times["original"]["fastest"]
    return found


def loading() -> dict[str, float]:
    names = {
        "ours / v1": "PIL + torchvision v1, decoding each time",
        "ours / v2": "decode_jpeg + v2, decoding each time",
        "ours / cached": "the same cache + v2",
    }
    rows = result("loading").get("images_per_second", {})
    return {f"batches {size}: {names[a]}": row[a] for size, row in rows.items() for a in names if a in row}


def losses() -> dict[str, float]:
    found = {}
    for size, rows in result("losses_peers").get("features", {}).items():
        n = size.split()[0]
        pairs = {
            f"triplet loss, {n} images: torchreid": ("torchreid triplet", "batch_hard_triplet"),
            f"triplet loss, {n} images: fast-reid": ("fast-reid triplet", "batch_hard_triplet"),
            f"center loss, {n} images: all centres and a mask": ("center loss, all centres and a mask", "CenterLoss"),
        }
        found |= {name: rows[a]["ms"] / rows[b]["ms"] for name, (a, b) in pairs.items() if a in rows}
    return found


def pictures() -> dict[str, float]:
    files = sorted(RESULTS.glob("tsne_*.json"), key=lambda file: int(file.stem.removeprefix("tsne_")))
    if not files:
        return {}
    report = json.loads(files[-1].read_text())
    names = {"sklearn": "scikit-learn, same PCA", "sklearn_whole": "scikit-learn, no PCA"}
    times = report["times_ours"]
    return {f"t-SNE of {report['images']:,}: {names[name]}": times[name]["fastest"] for name in names if name in times}


def bars() -> list[tuple[str, float, int]]:
    """Name, time in multiples of ours, and number of the path, of every bar."""
    groups = [group for group in (retrieval(), loading(), losses(), pictures()) if group]
    return [(name, times, number) for number, group in enumerate(groups) for name, times in group.items()]


def label(times: float) -> str:
    return f"{times:.0f}×" if times >= 10 else f"{times:.1f}×"


def described() -> str:
    """What the chart shows, in words: kept in the picture."""
    return "\n".join(f"{name} {label(times)}" for name, times, _ in bars())


@styled
def main() -> None:
    if not bars():
        print("benchmarks/results/ holds no headline figure yet")
        return
    names, times, numbers = zip(*bars(), strict=True)
    figure = Picture(8, 0.6 + 0.25 * len(names))
    axes = figure.subplots()
    drawn = axes.barh(names, times, color=[COLOURS[number] for number in numbers])
    axes.bar_label(drawn, [label(value) for value in times], padding=3)
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set(xscale="log", xlabel="time, in multiples of reidkit's (one core)", xlim=(0.8, 2.2 * max(times)))
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    DOCS.mkdir(exist_ok=True)
    figure.savefig(DOCS / "speed.png", dpi=150, metadata={"Software": None, "Description": described()})


if __name__ == "__main__":
    main()
