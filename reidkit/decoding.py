"""Decode once: the images of a split as one uint8 array, memory-mapped from a cache that is keyed by content.

Apart from loading.py so that a worker process that decodes need not import torch.
"""

import hashlib
import math
import operator
import os
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from joblib import Parallel, cpu_count, delayed
from PIL import Image, UnidentifiedImageError

from .datasets import cache_dir
from .datasets.base import rgb
from .progress import bar

__all__ = ["BadImages", "pixels"]

RULES = b"2"  # of decoding: what other rules have decoded is decoded again
CHUNK = 64  # images decoded between two writes: bounds the memory
WORTH_A_PROCESS = 10_000  # images; fewer are decoded before another worker process has started


class BadImages(ValueError):
    """Some files cannot be read as images. `paths`: these files; `reasons`: path -> what is wrong with it.

    The other images are in the cache already: the same call without the bad rows decodes nothing again.
    """

    def __init__(self, reasons: dict[str, str], total: int):
        super().__init__(reasons, total)  # as they came, so that the error survives the way back from a worker process
        self.reasons, self.total = reasons, total

    @property
    def paths(self) -> list[str]:
        return list(self.reasons)

    def __str__(self) -> str:
        named = "".join(f"\n  {path}: {reason}" for path, reason in list(self.reasons.items())[:5])
        more = f"\n  … and {len(self.reasons) - 5} more (error.paths)" if len(self.reasons) > 5 else ""
        return (
            f"{len(self.reasons)} of {self.total} images cannot be read:{named}{more}\n"
            "The others are decoded and kept. Replace these files, or go on without them: "
            "frame[~frame.path.isin(error.paths)]"
        )


@lru_cache(maxsize=2**17)
def _content(path: str, *_state: int) -> bytes:
    """A hash of the file's bytes, read once a process while the file stays as it is: a split is opened many times."""
    return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()


def pixels(frame, size=(256, 128), *, cache=None, workers=None, progress=True) -> np.memmap:
    """The images of a split as one array: decoded once, then memory-mapped from a cache.

    Each file is decoded to RGB, turned upright as its EXIF orientation says (of 16-bit grey the upper 8 bits; 32 bits
    are refused), and resized to `size`: by the mean of the covered area (PIL's BOX) where both sides shrink to half or
    less, bilinearly otherwise. The cache file is named by the content of the image files, in the order of the rows, and
    the size: a folder that moved is found again, a changed image is not mistaken for the old one. It appears whole or
    not at all, and several processes may write it at once.

    Parameters
    ----------
    frame : DataFrame with a column `path`; row i of the result is row i of the frame.
    size : (height, width) in pixels.
    cache : folder of the cache; default `pixels` in the kit's cache (environment variable REIDKIT_CACHE).
    workers : processes that decode; by default one for every 10,000 images, up to all cores.
    progress : show a bar when it takes long.

    Returns
    -------
    (N, H, W, 3) uint8, read-only.

    Raises
    ------
    BadImages
        Files that are missing, empty, truncated or not images, each named with its reason.
    OSError
        The cache cannot be written (a full disk, say); nothing half-written stays.
    """
    columns = getattr(frame, "columns", None)
    if columns is None or "path" not in columns:
        there = f"it is a {type(frame).__name__}" if columns is None else f"only {', '.join(map(str, columns))}"
        raise ValueError(f"the frame has no column 'path', {there}: give a split of a dataset")
    try:
        height, width = map(operator.index, size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ValueError(f"size = {size!r}: expected (height, width), two whole numbers of pixels, each at least 1")
    paths = [str(path) for path in frame["path"]]
    if not paths:
        raise ValueError("the frame has no rows: no images to load")
    folder = Path(cache) if cache is not None else cache_dir() / "pixels"

    contents, reasons = {}, {}  # path -> hash of the file's bytes; path -> what is wrong with it
    with bar(len(paths), "reading", "img", show=progress, delay=2) as shown:
        for path in paths:
            try:
                stat = os.stat(path)
                contents[path] = _content(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
            except OSError as error:
                reasons[path] = error.strerror or str(error)
            shown.update()

    def place() -> tuple[Path, tuple]:
        """Where the images that are not known to be bad belong, and their shape."""
        good = [contents[path] for path in paths if path not in reasons]
        key = hashlib.blake2b(b"".join([RULES, *good]), digest_size=16).hexdigest()
        return folder / f"{key}-{height}x{width}.u8", (len(good), height, width, 3)

    file, shape = place()
    if not (file.exists() and file.stat().st_size == math.prod(shape)):
        temporary = folder / f"{uuid.uuid4().hex}.tmp"
        readable = [path for path in paths if path not in reasons]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            workers = workers or min(cpu_count(), 1 + len(readable) // WORTH_A_PROCESS)
            with open(temporary, "xb") as out:
                reasons |= _decode_into(out, readable, (height, width), workers, progress)
            file, shape = place()
            if shape[0]:
                os.replace(temporary, file)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: cannot write the decoded images ({math.prod(shape) / 2**20:.0f} MiB) to "
                f"{folder}. Make room there, or name another folder with cache= or the environment variable "
                "REIDKIT_CACHE",
            ) from error
        finally:
            with suppress(OSError):
                temporary.unlink()
    if reasons:
        raise BadImages(reasons, len(paths))
    return np.memmap(file, np.uint8, mode="r", shape=shape)


def _decode_into(out, paths: list[str], size, workers: int, progress: bool) -> dict[str, str]:
    """Write the images one after another to the open file; path -> reason for those that cannot be read."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    # Processes, not threads: decoding small files holds the interpreter lock most of the time.
    decoded = Parallel(workers, return_as="generator")(delayed(_decode_all)(chunk, size) for chunk in chunks)
    bad = {}
    with bar(len(paths), "decoding", "img", show=progress, delay=2) as shown:
        for chunk, images in zip(chunks, decoded, strict=True):
            for path, image in zip(chunk, images, strict=True):
                if isinstance(image, str):
                    bad[path] = image
                else:
                    out.write(image)
            shown.update(len(chunk))
    return bad


def _decode_all(paths: list[str], size) -> list:
    return [_decode(path, size) for path in paths]


def _decode(path: str, size) -> np.ndarray | str:
    """One image as (H, W, 3) uint8, or the reason why not."""
    height, width = size
    try:
        if os.path.getsize(path) == 0:
            return "empty file"
        with Image.open(path) as opened:
            image = rgb(opened)
        halved = image.height >= 2 * height and image.width >= 2 * width
        image = image.resize((width, height), Image.Resampling.BOX if halved else Image.Resampling.BILINEAR)
        return np.asarray(image)
    except UnidentifiedImageError:
        return "not an image"
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, … on broken files
        return str(error) or type(error).__name__


def _sweep(folder: Path) -> None:
    """Remove what killed runs left behind: a writer that lives touches its file all the time, not an hour ago."""
    for old in folder.glob("*.tmp"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink()
