"""How cost grows: evaluate, re-rank, render and load at four sizes each, and the slope on logarithmic axes.

    python benchmarks/scaling.py [--step 1.0] [--rounds 2]

A slope of 1 is a cost in proportion to the images, of 2 to their square. --step 2 doubles every size. All on one
thread, seconds of processor time, the fastest of the rounds; the chart goes to docs/scaling.png or, with
--out, beside that file.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from _common import LABELS, RESULTS, about, make, options, write

from reidkit.plots.style import COLOURS, Picture, styled

SIZES = 2000, 4000, 8000, 16000  # images, a sixth of them queries; of Plaza and the loader a quarter of that
DOCS = Path(__file__).parent.parent / "docs"


def seconds(function, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        function()
        best = min(best, time.process_time() - begin)
    return best


def features(n: int) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"queries": n // 6, "gallery": n - n // 6, "ids": max(2, n // 26), "cameras": 6, "distractors": n // 7}
        make(Path(folder), **sizes, dim=2048)
        return [np.load(Path(folder, f"{part}.npy")) for part in ("query", "gallery", *LABELS)]


def retrieval(n: int, rounds: int) -> dict[str, tuple[int, float]]:
    from reidkit.evaluation import evaluate, evaluate_distances
    from reidkit.reranking import rerank_rows

    query, gallery, *labels = features(n)
    return {
        "evaluate": (n, seconds(lambda: evaluate(query, gallery, *labels), rounds)),
        "re-rank": (
            n,
            seconds(lambda: evaluate_distances(rerank_rows(query, gallery, progress=False), *labels), rounds),
        ),
    }


def images(n: int, rounds: int) -> dict[str, tuple[int, float]]:
    from reidkit.datasets.plaza import generate
    from reidkit.loading import Augment, Batches, pixels
    from reidkit.samplers import ShuffleSampler

    with tempfile.TemporaryDirectory() as folder:
        begin, ids = time.process_time(), max(2, n // 50)
        world = generate(Path(folder, "world"), train_ids=ids, test_ids=ids, workers=1, progress=False)
        rendering = time.process_time() - begin  # once: a finished world is only opened
        parts = ("bounding_box_train", "bounding_box_test")
        paths = sorted(str(path) for part in parts for path in (world / part).glob("*.jpg"))
        frame = pd.DataFrame({"path": paths})
        begin = time.process_time()
        decoded = pixels(frame, (128, 64), cache=Path(folder, "cache"), workers=1, progress=False)
        decoding = time.process_time() - begin
        zeros, sampler = np.zeros(len(frame), np.int64), ShuffleSampler(len(frame), batch_size=16)
        batches = Batches(decoded, zeros, zeros, sampler, augment=Augment(erase=0.5))
        epoch = seconds(lambda: [None for _ in batches.epoch(0)], rounds)
        queries = len(list((world / "query").glob("*.jpg")))
        return {
            "Plaza": (len(paths) + queries, rendering),
            "decode": (len(paths), decoding),
            "load an epoch": (len(paths), epoch),
        }


@styled
def chart(curves: dict[str, dict], file: Path) -> None:
    figure = Picture(6, 5)
    axes = figure.subplots()
    for marker, colour, (name, curve) in zip("osD^v", COLOURS[:5], curves.items(), strict=True):
        line = {"marker": marker, "color": colour, "label": f"{name}: slope {curve['slope']:.2f}"}
        axes.loglog(curve["images"], curve["seconds"], **line)
    axes.set(xlabel="images", ylabel="seconds on one core")
    axes.grid(True, which="major")
    figure.legend(loc="outside lower center", ncols=2)
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=150, metadata={"Software": None})


def main() -> None:
    args = options(__doc__, step=(1.0, "factor on every size"), rounds=(2, "of each")).parse_args()
    points: dict[str, list[tuple[int, float]]] = {}
    for n in (round(args.step * size) for size in SIZES):
        for name, point in (retrieval(n, args.rounds) | images(n // 4, args.rounds)).items():
            points.setdefault(name, []).append(point)
    curves = {}
    for name, curve in points.items():
        sizes, costs = zip(*curve, strict=True)
        slope = np.polyfit(np.log(sizes), np.log(costs), 1)[0]
        curves[name] = {"images": sizes, "seconds": [round(cost, 4) for cost in costs], "slope": round(slope, 2)}
    report = {"what": "seconds on one core by images", **about(), "rounds": args.rounds, "curves": curves}
    write(args.out or RESULTS / "scaling.json", report)
    chart(curves, args.out.with_suffix(".png") if args.out else DOCS / "scaling.png")


if __name__ == "__main__":
    main()
