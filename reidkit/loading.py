"""Loading: batches from decoded pixels, augmented as batches.

`pixels` turns a split's files into one memory-mapped array (see decoding.py), `Batches` turns that array into
training batches. A batch is a pure function of (seed, epoch, position): nothing depends on what was drawn before, on
the number of processes, or on the device.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

import numpy as np
import torch

from .decoding import BadImages, pixels

__all__ = ["Augment", "BadImages", "Batch", "Batches", "RandomCrop", "normalise", "pixels"]

MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet, RGB in [0, 1]
STD = np.array([0.229, 0.224, 0.225], np.float32)
AUGMENT = 0xA6  # keeps the augmentation's random stream apart from the sampler's, which has the same (seed, epoch)


def normalise(images) -> torch.Tensor:
    """Images as a network wants them: ImageNet mean 0 and standard deviation 1 per channel.

    images : (N, H, W, 3) uint8, a tensor on any device or an array.
    Returns (N, 3, H, W) float32 on the same device, channels_last in memory (no transposition takes place).
    """
    images = images if isinstance(images, torch.Tensor) else torch.tensor(np.asarray(images))
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"images must be (N, H, W, 3) uint8, not {tuple(images.shape)} {images.dtype}")
    n, height, width, _ = images.shape
    # A whole row of pixels as the last axis: one of 3 values would defeat the vector units.
    scale = torch.from_numpy(np.tile(1 / (255 * STD), width)).to(images.device, non_blocking=True)  # (3W,)
    shift = torch.from_numpy(np.tile(-MEAN / STD, width)).to(images.device, non_blocking=True)  # (3W,)
    rows = images.reshape(n, height, 3 * width).float()  # (N, H, 3W)
    torch.addcmul(shift, rows, scale, out=rows)
    return rows.view(n, height, width, 3).permute(0, 3, 1, 2)


class Draws(NamedTuple):
    """The random choices for n images."""

    flip: np.ndarray  # (n,) bool
    shift: np.ndarray  # (n, 2) int64: down, right, in pixels
    box: np.ndarray  # (n, 4) int64: top, left, height, width of the erased rectangle; height 0 = none

    def part(self, share: slice) -> "Draws":
        return Draws(*(values[share] for values in self))


@dataclass(frozen=True)
class Augment:
    """Pad-and-crop, random flip, normalisation and random erasing, in this order.

    flip : probability of a horizontal flip.
    pad : pixels of black added on each side before a random crop of the original size; by default 10 at height 256
        and in proportion at others (5 at 128, 2 at 64); 0 = no crop.
    erase : probability of random erasing (Zhong et al. 2020, Algorithm 1): a rectangle whose area is a share
        `erase_area` of the image, height over width in `erase_ratio`, both uniform, drawn again until it fits,
        filled with the ImageNet mean (which is 0 after normalisation).

    `Augment(flip=0, pad=0)` changes nothing.
    """

    flip: float = 0.5
    pad: int | None = None
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.4)
    erase_ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def __post_init__(self):
        for name in ("flip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is a probability: choose from 0 to 1")
        if self.pad is not None and self.pad < 0:
            raise ValueError(f"pad = {self.pad} pixels: choose 0 or more")
        for name, most in (("erase_area", 1), ("erase_ratio", np.inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise ValueError(f"{name} = {(low, high)}: choose 0 < low <= high" + (" <= 1" if most == 1 else ""))

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> Draws:
        """The choices for n images of size (height, width). Erasing draws last: with it, flips stay as they were."""
        height, width = size
        pad = round(height * 10 / 256) if self.pad is None else self.pad
        flip = rng.random(n) < self.flip
        shift = rng.integers(-pad, pad, (n, 2), endpoint=True)
        box = np.zeros((n, 4), np.int64)
        if self.erase:
            tries = 32  # three in four fit at 2:1: none ever fits only with limits that allow almost nothing
            area = rng.uniform(*self.erase_area, (n, tries)) * height * width
            ratio = rng.uniform(*self.erase_ratio, (n, tries))
            high = np.round(np.sqrt(area * ratio)).astype(np.int64)
            wide = np.round(np.sqrt(area / ratio)).astype(np.int64)
            fits = (high < height) & (wide < width)
            first = (np.arange(n), fits.argmax(1))
            high, wide = high[first], wide[first]
            erased = (rng.random(n) < self.erase) & fits[first]
            top, left = (rng.random((2, n)) * (np.array([height - high, width - wide]) + 1)).astype(np.int64)
            box[erased] = np.stack([top, left, high, wide], 1)[erased]
        return Draws(flip, shift, box)

    def apply(self, pixels, rows, draws: Draws, device="cpu") -> torch.Tensor:
        """Rows of `pixels` (N, H, W, 3) uint8, augmented as drawn: (B, 3, H, W) float32, channels_last.

        Pixels move on the host, where gathering copies them anyhow; bytes are sent; the device computes.
        """
        images = self.cut(pixels, rows, draws.shift)  # (B, H, W, 3) uint8
        mirrored = np.flatnonzero(draws.flip)
        if len(mirrored):
            # As (B, 3, H, W) in channels_last, where torch flips pixels with vector instructions.
            some = torch.from_numpy(images[mirrored]).permute(0, 3, 1, 2)
            images[mirrored] = some.flip(3).permute(0, 2, 3, 1).numpy()
        images = normalise(_send(images, device))
        for i in np.flatnonzero(draws.box[:, 2]).tolist():
            top, left, height, width = draws.box[i].tolist()
            images[i, :, top : top + height, left : left + width] = 0
        return images

    def cut(self, pixels, rows, shift: np.ndarray) -> np.ndarray:
        return crop(pixels, rows, shift)


@dataclass(frozen=True)
class RandomCrop(Augment):
    """A random crop of `size` (height, width) out of larger pixels in place of pad and crop; flip, erasing as above.

    Zheng et al. (TOMM 2018) crop 224 x 224 out of 256 x 256 (227 for CaffeNet), and 320 x 320 out of 362 x 362. At test
    time take the middle, `middle(pixels)`.
    """

    size: tuple[int, int] = (224, 224)

    def draw(self, rng: np.random.Generator, n: int, size: tuple[int, int]) -> Draws:
        room = np.array(size) - self.size  # (2,)
        if (room < 0).any():
            raise ValueError(f"a crop of {self.size} out of images of {size}: decode them larger")
        return super().draw(rng, n, self.size)._replace(shift=rng.integers(0, room, (n, 2), endpoint=True))

    def cut(self, pixels, rows, shift: np.ndarray) -> np.ndarray:
        height, width = self.size
        places = zip(np.asarray(rows).tolist(), shift.tolist(), strict=True)
        return np.stack([pixels[row, top : top + height, left : left + width] for row, (top, left) in places])

    def middle(self, pixels) -> np.ndarray:
        """The middle crop of every image: (N, H, W, 3) -> (N, *size, 3), a view."""
        top, left = ((have - want) // 2 for have, want in zip(pixels.shape[1:3], self.size, strict=True))
        return pixels[:, top : top + self.size[0], left : left + self.size[1]]


def crop(pixels, rows, shift: np.ndarray) -> np.ndarray:
    """pixels[rows], the i-th moved down and right by shift[i] pixels, black moving in: (B, H, W, 3) uint8."""
    pixels = np.asarray(pixels)  # no copy: a plain view of a memmap, whose rows come cheaper
    if not shift.any():
        return pixels[rows]
    height, width = pixels.shape[1:3]
    images = np.zeros((len(rows), height, width, 3), np.uint8)
    shift = shift.clip((-height, -width), (height, width))  # beyond that, all is black anyway
    for image, row, (down, right) in zip(images, rows, shift.tolist(), strict=True):
        image[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = pixels[
            row, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
        ]
    return images


def _send(array: np.ndarray, device) -> torch.Tensor:
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(eq=False)
class Batch:
    """What an objective sees, all on one device."""

    images: torch.Tensor  # (B, 3, H, W) float32, normalised, channels_last
    pids: torch.Tensor  # (B,) int64, the labels that Batches was given
    camids: torch.Tensor  # (B,) int64
    rows: torch.Tensor  # (B,) int64, rows of the frame


@dataclass(eq=False)
class Batches:
    """The batches of a training run.

    pixels : (N, H, W, 3) uint8 array, memmap or CPU tensor, as `pixels` returns.
    pids, camids : (N,) integers; pids are the labels that the losses see (contiguous: see `labels`).
    sampler : gives the rows of each batch (see samplers.py).
    augment, seed : how, and with which key, the images of a batch vary.

    `pids` and `sampler` may be replaced between epochs (pseudo labels).
    """

    pixels: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    sampler: object
    _: KW_ONLY
    augment: Augment = Augment()
    seed: int = 0

    def __post_init__(self):
        self._check()

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, e: int, *, device="cpu", rank: int = 0, world: int = 1, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch e, from number `skip` on.

        Process `rank` of `world` gets the rank-th of `world` equal, contiguous pieces of each batch, in whole
        identities where the sampler groups them; the pieces together are the batch that one process would get.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes: ranks count from 0 to {world - 1}")
        self._check()
        return self._epoch(e, device, rank, world, skip)

    def _epoch(self, e, device, rank, world, skip) -> Iterator[Batch]:
        pids, camids = np.asarray(self.pids), np.asarray(self.camids)
        size = tuple(self.pixels.shape[1:3])
        for position, rows in enumerate(self.sampler.epoch(e)):
            if position < skip:
                continue
            groups, rest = divmod(len(rows), self.sampler.group)
            if rest or groups % world:
                raise ValueError(
                    f"a batch of {len(rows)} images in groups of {self.sampler.group} cannot be shared equally by "
                    f"{world} processes: make its number of groups ({groups}) a multiple of {world}"
                )
            share = slice(rank * len(rows) // world, (rank + 1) * len(rows) // world)
            rng = np.random.default_rng([self.seed, e, position, AUGMENT])
            draws = self.augment.draw(rng, len(rows), size).part(
                share
            )  # drawn for all, so that sharing changes nothing
            rows = rows[share]
            images = self.augment.apply(self.pixels, rows, draws, device)
            labels = _send(np.stack([pids[rows], camids[rows], rows]).astype(np.int64), device)  # (3, B)
            yield Batch(images, *labels)

    def _check(self) -> None:
        shape = tuple(self.pixels.shape)
        if len(shape) != 4 or shape[-1] != 3 or str(self.pixels.dtype).removeprefix("torch.") != "uint8":
            raise ValueError(f"pixels must be (N, H, W, 3) uint8, not {shape} {self.pixels.dtype}")
        if not len(self.pids) == len(self.camids) == shape[0]:
            raise ValueError(f"{shape[0]} images, {len(self.pids)} pids and {len(self.camids)} camids: must be as many")
        for name in ("pids", "camids"):
            values = np.asarray(getattr(self, name))
            with np.errstate(invalid="ignore"):  # NaN and infinity become numbers that they do not equal
                other = values[values.astype(np.int64) != values]
            if other.size:
                raise ValueError(f"{name} must be integers, not {other[0]}")
