"""The stand-in for ImageNet weights: a small backbone trained once on other people of Plaza, then kept.

It plays the part that ImageNet plays in the papers, and is not the same thing. It saw pedestrians of the same kind with
their identities, so it is stronger than ImageNet weights would be here; and it saw them at gap 0, all cameras alike, so
`gap` also measures how far the data is from what it knows. A chart over `gap` needs a from-scratch curve beside it.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from reidkit import checkpoints
from reidkit.datasets import cache_dir, labels, plaza
from reidkit.distributed import world as processes
from reidkit.loading import Batch, Batches, pixels
from reidkit.models import Backbone, BNNeck, ReID, small_resnet
from reidkit.samplers import PKSampler
from reidkit.training import fit
from reidkit.turns import turn

RECIPE = 2  # of the training below and of all it rests on; another number makes kept weights anew


def stand_in(
    *,
    width: int = 16,
    ids: int = 300,
    steps: int = 800,
    size: tuple[int, int] = (64, 32),
    world: int = 1000,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> Backbone:
    """A `small_resnet(width)` that can already tell people apart, for `ReID(stand_in(), BNNeck(128), num_ids)`.

    Trained on first use (about two minutes on one core) and kept in `cache`, by default the kit's cache. The recipe:
    `ids` people of Plaza's world `world` at gap 0, `size` (height, width) pixels, flip and pad-and-crop; BNNeck and
    identity loss with label smoothing 0.1; `steps` batches of 16 people x 4 images; Adam at 3.5e-3, warm-up and cosine.
    Always on one CPU thread, so that a machine makes the same weights again. Of two processes that want the same new
    ones, the second waits for the first. Train and test on other worlds than
    `world`. Every call gives a backbone of its own, in training mode.

    Raises RuntimeError where several processes ask for weights that are not there yet: make them in one process first.
    """
    settings = {"width": width, "ids": ids, "steps": steps, "size": list(size), "world": world, "seed": seed}
    key = json.dumps({**settings, "recipe": RECIPE, "plaza": plaza.VERSION}, sort_keys=True)
    folder = cache_dir() if cache is None else Path(cache)
    file = folder / f"stand_in-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    backbone = small_resnet(width, seed=seed)
    if not file.exists():
        if processes().size > 1:
            raise RuntimeError(f"{file} is not there yet: call stand_in() once in a single process, then launch again")
        folder.mkdir(parents=True, exist_ok=True)
        with turn(file):
            if not file.exists():  # nobody else has made it meanwhile
                with _one_thread():
                    _train(backbone, folder, progress=progress, **settings)
                checkpoints.save_weights(file, backbone)
    checkpoints.load_weights(file, backbone)
    return backbone


def _train(backbone: Backbone, folder: Path, *, width, ids, steps, size, world, seed, progress) -> None:
    people = plaza.read(folder, gap=0.0, world=world, train_ids=ids, test_ids=2, progress=progress).train
    pids, camids = labels(people), people["camid"].to_numpy()
    images = pixels(people, tuple(size), cache=folder / "pixels", progress=progress)
    batches = Batches(images, pids, camids, PKSampler(pids, p=min(16, ids), k=4, seed=seed), seed=seed)
    model = ReID(backbone, BNNeck(backbone.channels), ids, seed=seed)
    fit(model, _identity_loss, batches, steps=steps, lr=3.5e-3, seed=seed, device="cpu", progress=progress)


def _identity_loss(model: ReID, batch: Batch, step: int) -> dict[str, Tensor]:
    return {"id": F.cross_entropy(model(batch.images).logits, batch.pids, label_smoothing=0.1)}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
