"""Make the pictures of README.md anew: docs/plaza.png (people by cameras) and docs/plaza-dial.png (the dial `gap`).

python tools/pictures.py [--out docs] [--world 0]
"""

import argparse
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from PIL import Image

from reidkit import plots
from reidkit.datasets.plaza import Shot, render

CAMERAS, PER_CAMERA = 6, 2
PEOPLE = (4, 13, 8, 11, 17, 19)  # of world 0: backpacks, bags, a print, stripes, and two who wear the same
LIMIT = 400_000  # bytes a picture


def crops(world: int, people, gap: float) -> tuple[np.ndarray, list[int], list[int]]:
    """Pictures of people under every camera, with their pids and camids."""
    shots = [Shot(cam, image, image) for cam in range(CAMERAS) for image in range(PER_CAMERA)]
    images = np.concatenate([render(world, pid, shots, gap=gap) for pid in people])
    return images, [pid for pid in people for _ in shots], [shot.cam for _ in people for shot in shots]


def save(picture, file: Path) -> None:
    """Write a picture as a PNG of 256 colours, which takes a third of the bytes."""
    drawn = io.BytesIO()
    picture.savefig(drawn, format="png", dpi=110)
    palette = Image.open(drawn).convert("RGB").quantize(256, kmeans=3)
    coded = io.BytesIO()
    palette.save(coded, format="png", optimize=True)
    if len(coded.getvalue()) > LIMIT:
        raise SystemExit(f"{file} would have {len(coded.getvalue()):,} bytes, more than {LIMIT:,}")
    file.write_bytes(coded.getvalue())
    print(f"{file}: {len(coded.getvalue()):,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--world", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    images, pids, camids = crops(options.world, PEOPLE, 1.0)
    save(plots.contact_sheet(images, pids, camids, people=PEOPLE, per_camera=PER_CAMERA), options.out / "plaza.png")

    by_gap = {gap: crops(options.world, PEOPLE[:2], gap) for gap in (0.0, 0.5, 1.0)}
    _, pids, camids = by_gap[0.0]
    images = {gap: pictures for gap, (pictures, _, _) in by_gap.items()}
    picture = plots.dial(images, pids, camids, people=PEOPLE[:2], per_camera=PER_CAMERA)
    save(picture, options.out / "plaza-dial.png")


if __name__ == "__main__":
    main()
