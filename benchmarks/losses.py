"""What a loss costs: forward and backward in milliseconds, over the floor, a matrix product of the features.

    python benchmarks/losses.py [--rounds 30] [--peers FOLDER]

features  (64, 2048) and (128, 2048), four images a person under two cameras
floor     x @ x.T, its sum, and back; quintuplet's own has two products, of pooled features with themselves and of
          features with the memory
peers     with --peers, a folder that holds checkouts of deep-person-reid and fast-reid: their hard triplet losses, and
          the center loss in its common public form, distances to all centres and a mask

All take turns in one process on one thread, each round in another order and three calls a turn (who comes after the
largest finds the caches empty), in processor time; the ratio is of the fastest calls. Beside a training step all of
this is small: ResNet-50 takes seconds.
"""

from __future__ import annotations

import os
import random
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from _common import about, default, options, peer, write

from reidkit import losses
from reidkit.association import intra_camera_labels

PEOPLE, DIM, CALLS = 751, 2048, 3


def masked_center(features, pids, centers):
    distances = features.square().sum(1)[:, None] + centers.square().sum(1)[None] - 2 * features @ centers.T
    mask = torch.nn.functional.one_hot(pids, len(centers)).bool()
    return (distances * mask).clamp(1e-12, 1e12).sum() / len(features)


def cases(n: int, peers) -> dict:
    """name -> (function of nothing to a scalar, tensors with a gradient)."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(n, DIM, generator=draw)
    features += 0.3 * torch.randn(n // 4, DIM, generator=draw).repeat_interleave(4, 0)
    features = torch.nn.functional.normalize(features).requires_grad_()
    pids = torch.arange(n // 4).repeat_interleave(4)
    camids = torch.arange(n) // 2 % 2
    ids = torch.tensor(intra_camera_labels(pids, camids))
    memory = torch.nn.functional.normalize(torch.randn(int(ids.max()) + 1, DIM, generator=draw))
    memory_camids = torch.empty(len(memory), dtype=torch.int64)
    memory_camids[ids] = camids
    pooled = (3 * features.detach() + 1).requires_grad_()
    center = losses.CenterLoss(PEOPLE, DIM)
    found = {
        "floor": lambda: (features @ features.T).sum(),
        "batch_hard_triplet": lambda: losses.batch_hard_triplet(features, pids),
        "camera_aware": lambda: losses.camera_aware(features, pids, camids),
        "camera_aware_triplet": lambda: losses.camera_aware_triplet(features, pids, camids),
        "camera_aware_flipped": lambda: losses.camera_aware_flipped(features, pids, camids),
        "intra_camera_triplet": lambda: losses.intra_camera_triplet(features, pids, camids),
        "cross_camera_pull": lambda: losses.cross_camera_pull(features, pids, camids),
        "ccsc": lambda: losses.ccsc(features, pids, camids),
        "contrastive": lambda: losses.contrastive(features, pids),
        "camera_softmax": lambda: losses.camera_softmax(features, ids, camids, memory, memory_camids, temperature=0.07),
        "quintuplet": lambda: losses.quintuplet(pooled, features, ids, camids, memory, memory_camids),
        "quintuplet's own floor": lambda: (pooled @ pooled.T).sum() + (features @ memory.T).sum(),
        "CenterLoss": lambda: center(features, pids),
    }
    torchreid = peer(peers, "deep-person-reid/torchreid/losses/hard_mine_triplet_loss.py")
    fastreid = peer(peers, "fast-reid/fastreid/modeling/losses/triplet_loss.py")
    if torchreid:
        theirs = torchreid.TripletLoss(margin=0.3)
        found["torchreid triplet"] = lambda: theirs(features, pids)
    if fastreid:
        found["fast-reid triplet"] = lambda: fastreid.triplet_loss(features, pids, 0.3, False, True)
    found["center loss, all centres and a mask"] = lambda: masked_center(features, pids, center.centers)
    return {name: (function, [features, pooled, *center.parameters()]) for name, function in found.items()}


def measure(functions: dict, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """The fastest forward and backward in ms, and the value of each."""
    best, values = dict.fromkeys(functions, float("inf")), {}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(functions), len(functions)):
            function, leaves = functions[name]
            for _ in range(CALLS):
                for leaf in leaves:
                    leaf.grad = None
                begin = time.process_time()
                value = function()
                value.backward()
                best[name] = min(best[name], 1000 * (time.process_time() - begin))
            values[name] = value.item()
    return best, values


def main() -> None:
    args = options(__doc__, rounds=(30, "turns of each"), peers=(None, "of checkouts")).parse_args()
    torch.set_num_threads(1)
    rows = {}
    for n in (64, 128):
        best, values = measure(cases(n, args.peers), args.rounds)
        rows[f"{n} x {DIM}"] = {
            name: {"ms": round(ms, 3), "over_floor": round(ms / best["floor"], 2), "value": values[name]}
            for name, ms in best.items()
        }
        own = best["quintuplet"] / best["quintuplet's own floor"]
        rows[f"{n} x {DIM}"]["quintuplet"]["over_own_floor"] = round(own, 2)
    write(
        args.out or default("losses", args.peers),
        {"what": "losses, forward and backward on a CPU", **about(), "torch": torch.__version__}
        | {"rounds": args.rounds, "features": rows},
    )


if __name__ == "__main__":
    main()
