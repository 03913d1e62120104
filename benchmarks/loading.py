"""Images per second of processor time, from JPEG files to augmented batches: this kit beside the usual loaders.

    python benchmarks/loading.py [--images 4000]

All four resize, flip, pad and crop, normalise, and erase (probability 0.5), in batches of 64:
  v1      decodes with PIL and applies torchvision.transforms (v1) image by image, each epoch, as most re-ID code does
  v2      decodes with torchvision.io.decode_jpeg and applies transforms.v2 to uint8 tensors, each epoch: the stronger
          peer
  cached  torchvision.transforms.v2 image by image, on decoded and resized pixels kept by this kit
  ours    reidkit.loading.Batches on the same pixels; decoding them, once, has the rate `build`
`with decoding once` are the ratios of v1's and v2's time to ours where ours decodes too, over so many epochs.
Files: 128x64 JPEGs of about 4 kB, as Market-1501's are.
"""

import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import torch
import torchvision
from _common import RESULTS, about, options, write
from PIL import Image
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from reidkit.loading import MEAN, STD, Augment, Batches, pixels
from reidkit.samplers import ShuffleSampler

BATCH, ERASE, MEAN, STD = 64, 0.5, MEAN.tolist(), STD.tolist()


def write_jpegs(folder: Path, n: int) -> pd.DataFrame:
    """Smooth random shapes with some noise: they compress about as well as photographs of people."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((64, 128), Image.Resampling.BICUBIC), np.float32)
        noisy = (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{i:05d}.jpg")
        Image.fromarray(noisy).save(paths[-1], quality=90)
    return pd.DataFrame({"path": [str(path) for path in paths]})


def v1(frame: pd.DataFrame, size, pad: int):
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.RandomHorizontalFlip(),
            transforms.Pad(pad),
            transforms.RandomCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
            transforms.RandomErasing(ERASE, (0.02, 0.4), (0.3, 1 / 0.3)),
        ]
    )
    order = np.random.default_rng(0).permutation(len(frame))
    for start in range(0, len(order) // BATCH * BATCH, BATCH):
        files = frame["path"].iloc[order[start : start + BATCH]]
        yield torch.stack([transform(Image.open(file).convert("RGB")) for file in files])


TENSORS = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
TENSORS += [v2.RandomErasing(ERASE, (0.02, 0.4), (0.3, 1 / 0.3))]


def decoding_v2(frame: pd.DataFrame, size, pad: int):
    transform = v2.Compose(
        [v2.Resize(size, antialias=True), v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=pad), *TENSORS]
    )
    order = np.random.default_rng(0).permutation(len(frame))
    for start in range(0, len(order) // BATCH * BATCH, BATCH):
        files = frame["path"].iloc[order[start : start + BATCH]]
        yield torch.stack([transform(decode_jpeg(read_file(file), ImageReadMode.RGB)) for file in files])


def cached(images: np.ndarray, size, pad: int):
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=pad), *TENSORS])
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order) // BATCH * BATCH, BATCH):
        rows = order[start : start + BATCH]
        yield torch.stack([transform(torch.from_numpy(images[row].copy()).permute(2, 0, 1)) for row in rows])


def rates(loaders: dict, rounds: int) -> dict[str, float]:
    """Images/s of each loader's fastest epoch; they take turns, so that a busy machine slows all of them alike."""
    best = dict.fromkeys(loaders, 0.0)
    for _ in range(rounds):
        for name, loader in loaders.items():
            start = time.process_time()
            n = sum(len(images) for images in loader())
            best[name] = max(best[name], n / (time.process_time() - start))
    return best


def main() -> None:
    args = options(__doc__, images=(4000, "files"), rounds=(7, "epochs of each")).parse_args()
    torch.set_num_threads(1)

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        frame = write_jpegs(Path(folder), args.images)
        for size, pad in (((256, 128), 10), ((128, 64), 5)):
            start = time.process_time()
            images = pixels(frame, size, cache=Path(folder, "cache"), workers=1, progress=False)
            build = len(frame) / (time.process_time() - start)
            zeros = np.zeros(len(frame), np.int64)
            batches = Batches(
                images,
                zeros,
                zeros,
                ShuffleSampler(len(frame), batch_size=BATCH),
                augment=Augment(flip=0.5, pad=pad, erase=ERASE),
            )
            loaders = {
                "v1": lambda: v1(frame, size, pad),  # noqa: B023
                "v2": lambda: decoding_v2(frame, size, pad),  # noqa: B023
                "cached": lambda: cached(images, size, pad),  # noqa: B023
                "ours": lambda: (batch.images for batch in batches.epoch(0)),  # noqa: B023
            }
            row = {"build": build} | rates(loaders, args.rounds)
            row = {name: round(value) for name, value in row.items()}
            row |= {f"ours / {other}": round(row["ours"] / row[other], 1) for other in ("v1", "v2", "cached")}
            row["with decoding once"] = {
                f"epochs: {epochs}": {
                    f"ours / {other}": round(epochs / row[other] / (1 / row["build"] + epochs / row["ours"]), 1)
                    for other in ("v1", "v2")
                }
                for epochs in (1, 10, 60)
            }
            results["{}x{}".format(*size)] = row

    report = {"what": "JPEG files to augmented batches, images/s of processor time", **about()}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    settings = {"images": args.images, "batch": BATCH, "rounds": args.rounds}
    write(args.out or RESULTS / "loading.json", report | versions | settings | {"images_per_second": results})


if __name__ == "__main__":
    main()
