"""What a GPU is good for here: checks that need one, a training run, evaluation and re-ranking, timed.

    python benchmarks/gpu.py [--seconds 60] [--out FILE.json] [--rehearse]

Without a GPU it says so and ends well. It needs PyTorch and this kit only, no notebook, and writes what it has after
every part, so that a machine that goes away leaves the parts before. --rehearse walks the same road on the CPU with
small sizes: no figure of it means anything.

checks    results on the GPU against those on the CPU: distances and metrics to 1e-5, neighbours, embeddings, resuming
card      the rate of a large bfloat16 matrix product and of reading memory, measured: what the rest is a share of
fit       ResNet-50 (last stride 1), 256x128, bf16, P x K = 16 x 4 images, on a Plaza world of Market-1501's size
evaluate  features at the size of Market-1501 and of MSMT17, to CMC, mAP and mINP
rerank    k-reciprocal re-ranking at both sizes, streamed into the metrics
"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _common import RESULTS, SIZES, about, load, make, options, write
from torch.utils.flop_counter import FlopCounterMode

from reidkit import losses, reranking
from reidkit.bench import batches as batches_of
from reidkit.datasets import load as load_data
from reidkit.datasets.plaza import MARKET_SIZE
from reidkit.embedding import embed
from reidkit.evaluation import evaluate, evaluate_distances
from reidkit.models import BNNeck, ReID, resnet50, small_resnet
from reidkit.training import fit

REHEARSAL = {"queries": 60, "gallery": 400, "ids": 20, "cameras": 6, "distractors": 40, "dim": 64}


def timed(device: str, function, rounds: int = 3) -> float:
    """Seconds of the fastest of some calls, all work on the device included."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best


def features(size: str, rehearse: bool) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), **(REHEARSAL if rehearse else SIZES[size]))
        return load(folder)


def objective(model, batch, step):
    output = model(batch.images)
    return {
        "identity": F.cross_entropy(output.logits, batch.pids),
        "triplet": losses.batch_hard_triplet(output.pooled, batch.pids),
    }


# ---- parts -------------------------------------------------------------------------------------------------------


def checks(device: str, data) -> dict:
    """Largest differences between this device and the CPU; `passed` says whether each is within its bound."""
    query, gallery, *labels = features("small", device == "cpu")
    q, g = (torch.tensor(x, device=device) for x in (query, gallery))
    here, there = evaluate(q, g, *labels, device=device), evaluate(query, gallery, *labels)
    found = {"evaluate": (np.nanmax(np.abs(here.ap - there.ap)), 1e-4), "mAP": (abs(here.mAP - there.mAP), 1e-5)}
    again = reranking.rerank(query, gallery, device=device, progress=False)
    expected = reranking.rerank(query, gallery, progress=False)
    # an equally near neighbour may come in another's place and change a few distances: the mean tells
    found["rerank"] = (np.abs(again - expected).mean(), 1e-5)
    images = np.random.default_rng(0).integers(0, 256, (32, 64, 32, 3), dtype=np.uint8)
    model = ReID(small_resnet(), BNNeck(128), 4).eval()
    on_cpu = embed(model, images, device="cpu")
    found["embed"] = (np.abs(embed(model, images, device=device) - on_cpu).max() / np.abs(on_cpu).max(), 5e-3)
    found["resume"] = (resuming(device, data), 1e-3)
    return {
        name: {"difference": float(difference), "bound": bound, "passed": bool(difference <= bound)}
        for name, (difference, bound) in found.items()
    }


def resuming(device: str, data) -> float:
    """Relative difference of the weights between a run and one that is cut in the middle and goes on."""

    def run(steps: int, checkpoint=None) -> torch.Tensor:
        model = ReID(small_resnet(), BNNeck(128), data.train.pid.nunique())
        options = {"device": device, "progress": False, "checkpoint": checkpoint, "checkpoint_every": 2}
        fit(model, interrupted if steps < 6 else objective, batches_of(data, (64, 32), p=8), steps=6, **options)
        return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])

    def interrupted(model, batch, step):
        if step == 3:
            raise KeyboardInterrupt
        return objective(model, batch, step)

    whole = run(6)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.safetensors")
        with suppress(KeyboardInterrupt):
            run(3, path)
        resumed = run(6, path)
    return float((whole - resumed).norm() / whole.norm())


def card(device: str) -> dict:
    n = 8192 if device == "cuda" else 256
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    x, y = (torch.randn(n, n, device=device) for _ in range(2))
    wide = torch.empty(1 << (30 if device == "cuda" else 20), dtype=torch.uint8, device=device)
    return {
        "name": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1) if device == "cuda" else None,
        "bf16_tflops": round(2 * n**3 / timed(device, lambda: a @ b, 10) / 1e12, 4),
        "fp32_tflops": round(2 * n**3 / timed(device, lambda: x @ y, 10) / 1e12, 4),  # without TF32
        "read_gb_per_second": round(wide.numel() / timed(device, lambda: wide.view(torch.int64).sum(), 10) / 1e9),
    }


def training(device: str, data, seconds: float, peak_tflops: float) -> dict:
    size, backbone = ((256, 128), resnet50) if device == "cuda" else ((64, 32), small_resnet)
    p = 16 if device == "cuda" else 4
    begin = time.perf_counter()
    batches = batches_of(data, size, p=p)
    decoded = time.perf_counter() - begin
    model = ReID(backbone(), BNNeck(backbone().channels), data.train.pid.nunique()).to(device)
    batch = next(batches.epoch(0, device=device))
    with FlopCounterMode(display=False) as counter:
        sum(objective(model, batch, 0).values()).backward()
    model.zero_grad()
    flop = counter.get_total_flops() / len(batch.pids)
    loading = timed(device, lambda: [None for _, _ in zip(range(20), batches.epoch(0, device=device), strict=False)])
    options = {"device": device, "precision": "bf16", "progress": False}
    warm = fit(model, objective, batches, steps=10, **options)
    warm = fit(model, objective, batches, steps=10, **options)
    steps = max(10, int(seconds * warm.images_per_second / len(batch.pids)))
    history = fit(model, objective, batches, steps=steps, **options)
    rate = history.images_per_second
    load_rate = min(20, len(batches)) * len(batch.pids) / loading
    share = rate * flop / 1e12 / peak_tflops
    return {
        "size": "{}x{}".format(*size),
        "batch": len(batch.pids),
        "steps": steps,
        "images": len(data.train),
        "decoding_seconds": round(decoded, 1),
        "images_per_second": round(rate, 1),
        "loader_images_per_second": round(load_rate, 1),
        "gflop_per_image": round(flop / 1e9, 2),
        "tflops": round(rate * flop / 1e12, 2),
        "share_of_bf16_rate": round(share, 3),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None,
        "last_loss": round(float(history.frame.loss.iloc[-1]), 3),
        "bound": f"The step reaches {share:.0%} of the card's bfloat16 rate; "
        + (
            f"the loader alone gives {load_rate / rate:.1f} times as many images: the device is what bounds it, "
            "its memory (normalisation, activations) more than its arithmetic."
            if load_rate > 1.5 * rate
            else "the loader on one thread, which is hardly faster, bounds it."
        ),
    }


def retrieval(device: str, size: str, rehearse: bool, rates: dict) -> dict:
    query, gallery, *labels = features(size, rehearse)
    q, g = (torch.tensor(x, device=device) for x in (query, gallery))
    one = timed(device, lambda: evaluate(q, g, *labels, device=device))
    product = timed(device, lambda: [part @ g.T for part in q.split(1024)])
    begin = time.perf_counter()
    rows = reranking.rerank_rows(query, gallery, device=device, progress=False)
    searched = time.perf_counter() - begin
    result = evaluate_distances(rows, *labels)
    whole = time.perf_counter() - begin
    flop = 2 * len(query) * len(gallery) * query.shape[1]
    return {
        "queries": len(query),
        "gallery": len(gallery),
        "evaluate_seconds": round(one, 3),
        "bare_product_seconds": round(product, 3),
        "evaluate_over_product": round(one / product, 2),
        "product_tflops": round(flop / product / 1e12, 2),
        "rerank_seconds": round(whole, 2),
        "of_it_neighbours": round(searched, 2),
        "mAP": evaluate(query, gallery, *labels, device=device).mAP,
        "mAP_reranked": result.mAP,
        "bound": f"Evaluation takes {one / product:.1f} times the bare product, which runs at "
        f"{flop / product / 1e12 / rates['fp32_tflops']:.0%} of the card's float32 rate; "
        "the rest is the passage of features from the host and a comparison of the scores for each match (memory). "
        f"Of re-ranking, {1 - searched / whole:.0%} is rows made on the host's processor.",
    }


def main() -> None:
    parser = options(__doc__, seconds=(60.0, "of training"))
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small sizes")
    args = parser.parse_args()
    device = "cpu" if args.rehearse else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("No GPU here: nothing to measure. (--rehearse walks the same road on the CPU.)")
        return
    out = args.out or RESULTS / ("gpu_rehearsal.json" if args.rehearse else "gpu.json")
    report = {"what": "on one GPU", **about(), "torch": torch.__version__, "cuda": torch.version.cuda}

    def part(name: str, function, *arguments) -> dict:
        begin = time.perf_counter()
        report[name] = function(*arguments) | {"seconds_of_this_part": round(time.perf_counter() - begin, 1)}
        write(out, report)
        return report[name]

    rates = part("card", card, device)
    with tempfile.TemporaryDirectory() as folder:
        small = load_data("plaza", folder, train_ids=40, test_ids=20)
        part("checks", checks, device, small)
        for size in ("market", "msmt17"):
            part(f"retrieval {size}", retrieval, device, size, args.rehearse, rates)
        begin = time.perf_counter()
        data = small if args.rehearse else load_data("plaza", folder, height=256, **MARKET_SIZE)
        report["rendering_seconds"] = round(time.perf_counter() - begin, 1)
        part("fit", training, device, data, args.seconds, rates["bf16_tflops"])
    failed = [name for name, check in report["checks"].items() if isinstance(check, dict) and not check["passed"]]
    if failed:
        raise SystemExit(f"differs from the CPU: {', '.join(failed)}")


if __name__ == "__main__":
    main()
