"""How fast Plaza is rendered and written: images a second on one core, one thread, 128x64 and 256x128.

    python benchmarks/plaza.py [--rounds 5]

  world       all of `generate` for a default world, with its backgrounds, folders and links: the rate to quote
  rendering   of that, pictures as arrays, a person's 16 at a time
  files       of that, rendered, coded as JPEG and written, the default world's first people
  on_disk     the world again, in a folder where TMPDIR says; the others lie on a memory disk, where there is one
The fastest whole round counts. All are images per second of processor time; `clock` is that of `world` by the clock.

Why in memory: ext4 gives no new file the place of one deleted in the last five minutes, and looks at each such place
first. After the rounds before, that takes 0.3 ms a file in place of 0.02, a sixth of `on_disk`, and is not Plaza's.
"""

import json
import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import PIL
from _common import RESULTS, about, options, write

from reidkit.datasets.plaza import Plan, Shot, _do, generate, render
from reidkit.datasets.plaza_plan import market_jobs

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
SHOTS = [Shot(cam, image % 2, image) for cam in range(6) for image in range(3)][:16]


def best(works, rounds: int) -> float:
    """Images per second of all pieces of work, in the fastest round. A piece returns its number of images."""
    rate = 0.0
    for _ in range(rounds):
        start = time.process_time()
        images = sum(work() for work in works)
        rate = max(rate, images / (time.process_time() - start))
    return rate


def rendering(height: int, people: int, rounds: int) -> float:
    return best([lambda p=p: len(render(0, p, SHOTS, height=height)) for p in range(1, people + 1)], rounds)


def files(height: int, people: int, rounds: int) -> float:
    plan = Plan(height=height)

    def work(job, to):
        for file in job.files:
            Path(to, file).unlink(missing_ok=True)
        return _do(job, to, plan)

    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        jobs = list(market_jobs(plan))[:people]
        for job in jobs:
            for file in job.files:
                Path(folder, file).parent.mkdir(exist_ok=True)
        return best([lambda job=job: work(job, folder) for job in jobs], rounds)


def a_world(height: int, ids: tuple[int, int], where: str | None) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(dir=where) as folder:
        start, clock = time.process_time(), time.perf_counter()
        out = generate(
            Path(folder, "world"), train_ids=ids[0], test_ids=ids[1], height=height, workers=1, progress=False
        )
        seconds, wall = time.process_time() - start, time.perf_counter() - clock
        counts = json.loads((out / "plaza.json").read_text())["counts"]
        images = sum(n for where, n in counts.items() if where != "gt_bbox")  # whose files are links
    return images / seconds, images / wall


def main() -> None:
    args = options(__doc__, rounds=(5, "of each")).parse_args()
    rates = {}
    for height, people, ids in ((128, 24, (100, 200)), (256, 8, (20, 40))):
        worlds, disk = ([a_world(height, ids, where) for _ in range(args.rounds)] for where in (MEMORY, None))
        row = {"world": max(rate for rate, _ in worlds), "clock": max(clock for _, clock in worlds)}
        row |= {f.__name__: f(height, people, args.rounds) for f in (rendering, files)}
        row["on_disk"] = max(rate for rate, _ in disk)
        rates[f"{height}x{height // 2}"] = {name: round(rate) for name, rate in row.items()}
    report = {"what": "Plaza rendered and written, images/s of processor time; `world` is the whole", **about()}
    versions = {"pillow": PIL.__version__, "rounds": args.rounds}
    write(args.out or RESULTS / "plaza.json", report | versions | {"images_per_second": rates})


if __name__ == "__main__":
    main()
