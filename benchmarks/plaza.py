"""How fast Plaza is rendered and written: images a second on one core, one thread, 128x64 and 256x128.

    python benchmarks/plaza.py [--out benchmarks/results/plaza.json]

  rendering   pictures as arrays, a person's 16 at a time
  files       rendered, coded as JPEG and written, the default world's first people
  world       all of `generate` for the default world, with its backgrounds, folders and links, once
The first two are the best of several rounds for each person, which other work on the machine disturbs least. All are
images per second of processor time; `clock` is `world` by the clock.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import PIL

from reidkit.datasets.plaza import Plan, Shot, _do, generate, render
from reidkit.datasets.plaza_plan import market_jobs

SHOTS = [Shot(cam, image % 2, image) for cam in range(6) for image in range(3)][:16]


def best(works, rounds: int) -> float:
    """Images per second of pieces of work, each taken at its fastest. A piece of work returns its number of images."""
    fastest, images = np.full(len(works), np.inf), 0
    for _ in range(rounds):
        images = 0
        for i, work in enumerate(works):
            start = time.process_time()
            images += work()
            fastest[i] = min(fastest[i], time.process_time() - start)
    return images / fastest.sum()


def rendering(height: int, people: int, rounds: int) -> float:
    return best([lambda p=p: len(render(0, p, SHOTS, height=height)) for p in range(1, people + 1)], rounds)


def files(height: int, people: int, rounds: int) -> float:
    plan = Plan(height=height)

    def work(job, to):
        for file in job.files:
            Path(to, file).unlink(missing_ok=True)
        return _do(job, to, plan)

    with tempfile.TemporaryDirectory() as folder:
        jobs = list(market_jobs(plan))[:people]
        for job in jobs:
            for file in job.files:
                Path(folder, file).parent.mkdir(exist_ok=True)
        return best([lambda job=job: work(job, folder) for job in jobs], rounds)


def a_world(height: int, ids: tuple[int, int]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        start, clock = time.process_time(), time.perf_counter()
        out = generate(
            Path(folder, "world"), train_ids=ids[0], test_ids=ids[1], height=height, workers=1, progress=False
        )
        seconds, wall = time.process_time() - start, time.perf_counter() - clock
        counts = json.loads((out / "plaza.json").read_text())["counts"]
        images = sum(n for where, n in counts.items() if where != "gt_bbox")  # whose files are links
    return images / seconds, images / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--out", type=Path, help="also write the figures to this JSON file")
    options = parser.parse_args()

    results = {}
    for height, people, ids in ((128, 24, (100, 200)), (256, 8, (20, 40))):
        rates = {f.__name__: f(height, people, options.rounds) for f in (rendering, files)}
        rates["world"], rates["clock"] = a_world(height, ids)
        results[f"{height}x{height // 2}"] = {name: round(rate) for name, rate in rates.items()}

    print("images/s on one thread")
    for size, rates in results.items():
        print(f"{size:8s}" + "".join(f"  {name} {rate:,}" for name, rate in rates.items()))
    if options.out:
        cpu = Path("/proc/cpuinfo")
        names = [line for line in cpu.read_text().splitlines() if "model name" in line] if cpu.exists() else []
        about = {
            "date": date.today().isoformat(),
            "processor": names[0].split(":")[1].strip() if names else platform.processor(),
            "load": [round(load, 1) for load in os.getloadavg()],  # of the machine meanwhile
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        }
        temporary = options.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(about | {"images_per_second": results}, indent=2) + "\n")
        temporary.replace(options.out)


if __name__ == "__main__":
    main()
