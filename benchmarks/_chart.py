"""The headline figures as one chart, docs/speed.png, from the JSON files in benchmarks/results/.

    python benchmarks/_chart.py

How many times as long others take, on one core. A bar whose file is not there is left out; every number, the machine
and the day are in these files. Results beside peers (`*_peers.json`, see the scripts' --peers) give most of the bars.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from _common import RESULTS

DOCS = Path(__file__).parent.parent / "docs"


def result(name: str) -> dict:
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def retrieval() -> dict[str, float]:
    found = {}
    peers = result("evaluate_market_peers").get("distance_matrix_given", {}).get("peers", {})
    for name, row in peers.items():
        found[f"metrics of a distance matrix: {name}"] = row["times_ours"]["fastest"]
    if "original" in (times := result("rerank_market_peers").get("times_ours", {})):
        found["re-ranking: the authors' code"] = times["original"]["fastest"]
    return found


def loading() -> dict[str, float]:
    found = {}
    for size, row in result("loading").get("images_per_second", {}).items():
        found[f"batches {size}: PIL + torchvision v1"] = row["ours / v1"]
        found[f"batches {size}: the same cache + v2"] = row["ours / cached"]
    return found


def losses() -> dict[str, float]:
    rows = result("losses_peers").get("features", {}).get("128 x 2048", {})
    pairs = {
        "triplet loss: torchreid": ("torchreid triplet", "batch_hard_triplet"),
        "triplet loss: fast-reid": ("fast-reid triplet", "batch_hard_triplet"),
        "center loss: all centres and a mask": ("center loss, all centres and a mask", "CenterLoss"),
    }
    return {name: rows[a]["ms"] / rows[b]["ms"] for name, (a, b) in pairs.items() if a in rows}


def pictures() -> dict[str, float]:
    files = sorted(RESULTS.glob("tsne_*.json"), key=lambda file: int(file.stem.removeprefix("tsne_")))
    if not files:
        return {}
    report = json.loads(files[-1].read_text())
    names = {"sklearn": "scikit-learn, same PCA", "sklearn_whole": "scikit-learn, no PCA"}
    times = report["times_ours"]
    return {f"t-SNE of {report['images']:,}: {names[name]}": times[name]["fastest"] for name in names if name in times}


def main() -> None:
    groups = [group for group in (retrieval(), loading(), losses(), pictures()) if group]
    if not groups:
        print("benchmarks/results/ holds no headline figure yet")
        return
    bars = [(name, times, number) for number, group in enumerate(groups) for name, times in group.items()]
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.3 * len(bars)), layout="constrained")
    names, times, numbers = zip(*bars, strict=True)
    colours = plt.get_cmap("tab10")
    drawn = axes.barh(names, times, color=[colours(number) for number in numbers])
    axes.bar_label(drawn, [f"{value:.0f}×" if value >= 10 else f"{value:.1f}×" for value in times], padding=3)
    axes.axvline(1, color="0.4", linewidth=1)
    axes.set(xscale="log", xlabel="time, in multiples of reidkit's (one core)", xlim=(0.8, 2.2 * max(times)))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    DOCS.mkdir(exist_ok=True)
    figure.savefig(DOCS / "speed.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
