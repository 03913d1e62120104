"""Plaza, the embedded data set: pedestrians on a plaza watched by several cameras, rendered from a seed, no download.

A *world* (a number) has its own identities and cameras; identities with odd pids are for training, those with even
pids for testing, so that a world keeps its people whatever its size. `gap` (0 … 1) scales every difference between its
cameras. Every random choice comes from a stream keyed by what it is for: identity, then tracklet (one passage of a
person under a camera), then image. Neither the order of the work nor the number of workers changes a pixel.

    bounding_box_train/  query/  bounding_box_test/  gt_bbox/     0002_c1s1_000451_03.jpg, as in Market-1501
    plaza.json                                                    the arguments, and the counts of a finished world

One query per identity and camera (from a hand-drawn box, `_00`); gt_bbox has all images of the query identities.
Same seed, same bytes: on one machine, with one version of NumPy and Pillow.
"""

import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import joblib
from PIL import Image

from ..progress import bar
from ..turns import turn
from . import plaza_cuhk03
from .base import DatasetError, ReIDDataset
from .market1501 import read_layout
from .plaza_plan import VERSION, Job, Plan, market_jobs
from .rendering import Shot, contact_sheet, render, scene

__all__ = ["MARKET_SIZE", "Plan", "Shot", "contact_sheet", "generate", "read", "render", "scene"]

# A world of Market-1501's size: plaza.read(root, **MARKET_SIZE), about 35,000 images.
MARKET_SIZE = {"train_ids": 751, "test_ids": 750, "images": (2, 6), "distractors": 2_798, "junk": 3_819}


def generate(
    out,
    *,
    gap: float = 1.0,
    world: int = 0,
    train_ids: int = 100,
    test_ids: int = 200,
    cameras: int = 6,
    cameras_per_id: tuple[int, int] | None = None,
    tracklets: tuple[int, int] = (1, 2),
    images: tuple[int, int] = (2, 5),
    distractors: int = 0,
    junk: int | None = None,
    height: int = 128,
    layout: str = "market1501",
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Render a world into the folder `out` (see `Plan` for the arguments) and return its path.

    workers  processes; by default one per core. They do not change the pictures.

    `out` appears whole or not at all. A world that was cut short goes on where it stopped, one that is there is left
    alone, and of two processes that make the same one, the second waits for the first. Raises DatasetError for
    arguments out of range, a folder that holds something else, a full disk.
    """
    plan = Plan(
        gap, world, train_ids, test_ids, cameras, cameras_per_id, tracklets, images, distractors, junk, height, layout
    )
    _check_workers(workers)
    out = Path(os.path.abspath(os.path.expanduser(out)))
    if _finished(out, plan):
        return out
    part, done = out.with_name(f".{out.name}.part"), 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with turn(out):
            if not _finished(out, plan):
                _stage(part, plan)
                for done in _render_all(part, plan, workers, progress):  # noqa: B007
                    pass
                _finish(part, plan)
                os.replace(part, out)
    except (OSError, BrokenProcessPool) as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = f"the disk is full ({error.strerror})" if full else f"{type(error).__name__}: {error}".splitlines()[0]
        raise DatasetError(
            f"plaza: cannot make {out}: {why}. {done:,} images are whole and stay in {part}; "
            f"{'free some space' if full else 'put that right'} and call again to go on, or delete that folder"
        ) from error
    return out


def _check_workers(workers) -> None:
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise DatasetError(f"plaza: workers must be a number of processes, 1 or more, or None; got {workers!r}")


def _finished(out: Path, plan: Plan) -> bool:
    """Whether `out` holds this world, whole. Raises DatasetError where it holds anything else."""
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return False
        made = json.loads((out / "plaza.json").read_text())
        counts, arguments = made["counts"], made["arguments"] | {"version": made["version"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise DatasetError(f"plaza: {out} is there and is no Plaza world; choose another folder") from None
    asked = json.loads(json.dumps(asdict(plan) | {"version": VERSION}))
    differ = [
        f"{name} {arguments.get(name)!r}, not {value!r}"
        for name, value in asked.items()
        if arguments.get(name) != value
    ]
    if differ:
        raise DatasetError(f"plaza: {out} holds another world ({'; '.join(differ)}); choose another folder")
    there = {folder: len(os.listdir(out / folder)) if (out / folder).is_dir() else 0 for folder in counts}
    if there != counts:
        lost = "; ".join(f"{there[f]:,} of {n:,} files in {f}" for f, n in counts.items() if there[f] != n)
        raise DatasetError(f"plaza: {out} is not as it was made ({lost}); delete the folder to have it made again")
    return True


def _stage(part: Path, plan: Plan) -> None:
    """Make the folder to work in, or clear what a killed process left half-written in it."""
    begun = part / "arguments.json"
    arguments = json.dumps(asdict(plan) | {"version": VERSION})
    if part.exists() and (not begun.exists() or begun.read_text() != arguments):
        shutil.rmtree(part)  # another world was begun here
    part.mkdir(exist_ok=True)
    for torn in part.rglob("*.tmp"):
        torn.unlink()
    _write(begun, arguments.encode())


def _render_all(part: Path, plan: Plan, workers, progress) -> Iterator[int]:
    """Render what is not there yet; yields the number of finished images."""
    todo = list(market_jobs(plan) if plan.layout == "market1501" else plaza_cuhk03.jobs(plan))
    there = set()
    for folder in {os.path.dirname(file) for job in todo for file in job.files}:
        (part / folder).mkdir(exist_ok=True)
        there |= {f"{folder}/{name}" for name in os.listdir(part / folder)}
    total = sum(len(job.files) for job in todo)
    left = [rest for job in todo if (rest := job.without(there)).files]
    done = total - sum(len(job.files) for job in left)
    need = 6_000 * (plan.height / 128) ** 2 * (total - done) * (1 if plan.layout == "market1501" else 12)
    if shutil.disk_usage(part).free < need:
        raise OSError(errno.ENOSPC, f"the rest takes about {need / 1e6:,.0f} MB")
    workers = workers or min(joblib.cpu_count(), 1 + (total - done) // 1_000)  # starting one takes as long as 1,000
    yield done
    with bar(total, f"Plaza, world {plan.world}, gap {plan.gap:g}", "images", show=progress, initial=done) as shown:
        if workers == 1:
            counts = (_do(job, part, plan) for job in left)
        else:
            with joblib.parallel_config("loky", inner_max_num_threads=1):
                pool = joblib.Parallel(workers, return_as="generator_unordered", batch_size=4)
            counts = pool(joblib.delayed(_do)(job, part, plan) for job in left)
        for count in counts:
            done += count
            shown.update(count)
            yield done


def _do(job: Job, part: Path, plan: Plan) -> int:
    pictures = render(plan.world, job.pid, job.shots, gap=plan.gap, cameras=plan.cameras, height=plan.height)
    for picture, file in zip(pictures, job.files, strict=True):
        coded = io.BytesIO()
        how = {"format": "PNG"} if file.endswith(".png") else {"format": "JPEG", "quality": 92, "subsampling": 0}
        Image.fromarray(picture).save(coded, **how)
        _write(os.path.join(part, file), coded.getbuffer())
    return len(job.files)


def _write(path, data) -> None:
    """Write a file whole or not at all."""
    passing = f"{path}.tmp"
    try:
        with open(passing, "wb") as file:
            file.write(data)
        os.replace(passing, path)
    except BaseException:
        Path(passing).unlink(missing_ok=True)
        raise


def _finish(part: Path, plan: Plan) -> None:
    """Add what is made from the pictures, and the note that says the world is whole."""
    if plan.layout == "cuhk03":
        plaza_cuhk03.pack(part, plan)
    else:
        (part / "gt_bbox").mkdir(exist_ok=True)
        for folder in ("query", "bounding_box_test"):
            for name in os.listdir(part / folder):
                if not name.startswith(("-1", "0000")):
                    _link(part / folder / name, part / "gt_bbox" / f"{name[: name.rindex('_')]}_00.jpg")
    (part / "arguments.json").unlink()
    counts = {folder.name: len(os.listdir(folder)) for folder in sorted(part.iterdir()) if folder.is_dir()}
    made = {"version": VERSION, "arguments": asdict(plan), "counts": counts}
    _write(part / "plaza.json", json.dumps(made, indent=1).encode())


def _link(source: Path, target: Path) -> None:
    """One file under two names, where the file system can; else a copy."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        _write(target, source.read_bytes())


def read(
    root="data",
    *,
    gap: float = 1.0,
    world: int = 0,
    train_ids: int = 100,
    test_ids: int = 200,
    cameras: int = 6,
    cameras_per_id: tuple[int, int] | None = None,
    tracklets: tuple[int, int] = (1, 2),
    images: tuple[int, int] = (2, 5),
    distractors: int = 0,
    junk: int | None = None,
    height: int = 128,
    workers: int | None = None,
    progress: bool = True,
) -> ReIDDataset:
    """Open a world, made on first use in a folder of its own under root/plaza/. The arguments are those of `generate`.

    `root` may also be the folder of a world that `generate` made with the same arguments.
    """
    plan = Plan(gap, world, train_ids, test_ids, cameras, cameras_per_id, tracklets, images, distractors, junk, height)
    protocol = {name: value for name, value in asdict(plan).items() if name != "layout"}
    root = Path(os.path.expanduser(root))
    own = (root / "plaza.json").exists()  # a world's own folder
    folder = generate(root if own else root / "plaza" / plan.key, **protocol, workers=workers, progress=progress)
    return read_layout(folder, "plaza", protocol)
