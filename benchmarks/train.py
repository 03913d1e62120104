"""Images a second through a training step on one CPU core: the plain layout, channels_last, bfloat16.

    python benchmarks/train.py [--seconds 10] [--resnet50]

small     the course's network, 64x32, batches of 64
resnet50  256x128, batches of 8 (with --resnet50: minutes)
plain     a loop of one's own, images as PyTorch lays them out by default
fp32      `fit`: channels_last, float32, bit-reproducible, the augmentation included; what the profile `demo` does
bf16      `fit(precision="bf16")`: worth it where the processor multiplies bfloat16 (`bf16_hardware`), not elsewhere

They take turns; each gets about so many seconds, and the rate is that of its fastest turn.
"""

from __future__ import annotations

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from _common import RESULTS, about, flags, options, write

from reidkit.loading import Batches, normalise
from reidkit.models import PlainNeck, ReID, resnet50, small_resnet
from reidkit.samplers import ShuffleSampler
from reidkit.training import fit

PEOPLE = 751
ROUNDS = 3
CASES = {"small": (small_resnet, (64, 32), 64), "resnet50": (resnet50, (256, 128), 8)}


def objective(model, batch, step):
    return {"identity": F.cross_entropy(model(batch.images).logits, batch.pids)}


def network(backbone) -> ReID:
    network = backbone()
    return ReID(network, PlainNeck(network.channels), PEOPLE)


def rates(backbone, size, batch: int, seconds: float, rounds: int = ROUNDS) -> dict[str, float]:
    rng = np.random.default_rng(0)
    n = 4 * batch
    pixels = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    pids = rng.integers(0, PEOPLE, n)
    batches = Batches(pixels, pids, np.zeros(n, np.int64), ShuffleSampler(n, batch_size=batch))
    images, labels = normalise(pixels[:batch]).contiguous(), torch.from_numpy(pids[:batch])

    def plain(steps: int) -> float:
        model = network(backbone)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        begin = time.process_time()
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(images).logits, labels).backward()
            optimizer.step()
        return steps * batch / (time.process_time() - begin)

    def fitted(steps: int, precision: str) -> float:
        model = network(backbone)
        begin = time.process_time()
        fit(model, objective, batches, steps=steps, device="cpu", precision=precision, progress=False)
        return steps * batch / (time.process_time() - begin)

    ways = {"plain": plain, "fp32": lambda steps: fitted(steps, "no"), "bf16": lambda steps: fitted(steps, "bf16")}
    best = {}
    for name, way in ways.items():
        best[name] = way(1)  # the first step is slow
    for _ in range(rounds):
        for name, way in ways.items():
            best[name] = max(best[name], way(max(2, round(seconds / rounds * best[name] / batch))))
    return best


def main() -> None:
    parser = options(__doc__, seconds=(10.0, "of each way"))
    parser.add_argument("--resnet50", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    for name in ("small", "resnet50") if args.resnet50 else ("small",):
        backbone, size, batch = CASES[name]
        best = rates(backbone, size, batch, args.seconds)
        rows[name] = {
            "size": "{}x{}".format(*size),
            "batch": batch,
            "images_per_second": {way: round(rate, 1) for way, rate in best.items()},
            "over_plain": {way: round(best[way] / best["plain"], 2) for way in ("fp32", "bf16")},
        }
    hardware = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags()]
    report = {"what": "training steps on one CPU core", **about(), "torch": torch.__version__, "rounds": ROUNDS}
    write(args.out or RESULTS / "train.json", report | {"bf16_hardware": hardware or "none", "networks": rows})


if __name__ == "__main__":
    main()
