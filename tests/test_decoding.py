"""Decoding: the array is the files, it is decoded once, and every failure is one clear error with nothing lost."""

import errno
import io
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import reidkit.decoding as decoding
from reidkit.decoding import BadImages, pixels

SIZE = (16, 8)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "pixels"


@pytest.fixture
def frame(tmp_path):
    """Five PNG files of the final size, in a folder with a space in its name, not in the order of their names."""
    folder = tmp_path / "my images"
    folder.mkdir()
    paths = [folder / f"{name} {i}.png" for i, name in enumerate("dbeac")]
    for i, path in enumerate(paths):
        Image.fromarray(noise(*SIZE, 3, seed=i)).save(path)
    return pd.DataFrame({"path": [str(path) for path in paths], "pid": [4, 4, 1, 1, 0]}, index=[9, 8, 7, 6, 5])


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, in order of decoding."""
    seen, decode = [], decoding._decode
    monkeypatch.setattr(decoding, "_decode", lambda path, size: seen.append(path) or decode(path, size))
    return seen


def test_pixels_are_the_files_in_the_order_of_the_frame(frame, cache):
    images = pixels(frame, SIZE)
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, [noise(*SIZE, 3, seed=i) for i in range(5)])
    assert [file.suffix for file in cache.iterdir()] == [".u8"]


def test_pixels_decode_once(frame, decoded, tmp_path):
    first = pixels(frame, SIZE)
    assert sorted(decoded) == sorted(frame["path"])
    os.rename(tmp_path / "my images", tmp_path / "moved")  # the content is the key, not the place
    moved = frame.assign(path=frame["path"].str.replace("my images", "moved"))
    np.testing.assert_array_equal(pixels(moved, SIZE), first)
    assert len(decoded) == 5


def test_pixels_decode_again_when_content_order_or_size_change(frame, cache):
    pixels(frame, SIZE)
    np.testing.assert_array_equal(pixels(frame[::-1], SIZE)[0], noise(*SIZE, 3, seed=4))
    assert pixels(frame, (8, 4)).shape == (5, 8, 4, 3)
    Image.fromarray(noise(*SIZE, 3, seed=77)).save(frame["path"].iloc[2])
    np.testing.assert_array_equal(pixels(frame, SIZE)[2], noise(*SIZE, 3, seed=77))
    assert len(list(cache.iterdir())) == 4


def test_pixels_survive_more_images_than_a_chunk_and_any_number_of_workers(frame, monkeypatch, tmp_path):
    monkeypatch.setattr(decoding, "CHUNK", 2)
    alone = pixels(frame, SIZE, workers=1, cache=tmp_path / "one")
    np.testing.assert_array_equal(pixels(frame, SIZE, workers=2, cache=tmp_path / "two"), alone)


def test_pixels_average_when_they_shrink_to_half_or_less(tmp_path):
    big = noise(32, 24, 3)
    Image.fromarray(big).save(tmp_path / "big.png")
    frame = pd.DataFrame({"path": [tmp_path / "big.png"]})
    blocks = big.reshape(16, 2, 8, 3, 3).mean((1, 3))  # 2 x 3 pixels become one
    np.testing.assert_allclose(pixels(frame, SIZE)[0], blocks, atol=1)  # PIL rounds twice
    bilinear = Image.fromarray(big).resize((20, 30), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pixels(frame, (30, 20))[0], bilinear)


def test_pixels_are_rgb_and_upright(tmp_path):
    upright = np.zeros((16, 8, 3), np.uint8)
    upright[:8] = (250, 10, 10)  # red above black
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to view"
    lying = Image.fromarray(np.rot90(upright).copy())
    lying.save(tmp_path / "lying.jpg", exif=exif, quality=95)
    Image.fromarray(upright).quantize(2).save(tmp_path / "palette.png")
    Image.fromarray(noise(16, 8)).save(tmp_path / "grey.png")
    names = ["lying.jpg", "palette.png", "grey.png"]
    turned, palette, grey = pixels(pd.DataFrame({"path": [tmp_path / name for name in names]}), SIZE)
    assert np.abs(turned[[2, 13]].astype(int) - upright[[2, 13]]).max() < 12
    np.testing.assert_array_equal(palette, upright)
    np.testing.assert_array_equal(grey, np.repeat(noise(16, 8)[..., None], 3, 2))


def test_pixels_of_nothing(frame):
    with pytest.raises(ValueError, match="no rows"):
        pixels(frame[:0], SIZE)


@pytest.mark.parametrize("size", [(0, 64), (-8, 8), 128, (16, 8, 3), (16.5, 8)])
def test_a_size_that_is_none(frame, size):
    with pytest.raises(ValueError, match=r"expected \(height, width\)"):
        pixels(frame, size)


def test_a_frame_without_paths(frame):
    with pytest.raises(ValueError, match="no column 'path', only file, pid"):
        pixels(frame.rename(columns={"path": "file"}).assign(pid=1)[["file", "pid"]], SIZE)
    with pytest.raises(ValueError, match="no column 'path', it is a list: give a split"):
        pixels(list(frame["path"]), SIZE)


BAD = {
    "empty": (lambda path: path.write_bytes(b""), "empty file"),
    "truncated jpeg": (lambda path: path.write_bytes(jpeg()[: len(jpeg()) // 2]), "truncated"),
    "truncated png": (lambda path: path.write_bytes(path.read_bytes()[:200]), "truncated"),
    "not an image": (lambda path: path.write_text("0002_c1s1_000451_03"), "not an image"),
    "missing": (lambda path: path.unlink(), "No such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "directory"),
}


def jpeg():
    buffer = io.BytesIO()
    Image.fromarray(noise(64, 32, 3)).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_named_with_its_reason(kind, frame, decoded, cache):
    spoil, reason = BAD[kind]
    bad = frame["path"].iloc[1]
    spoil(Path(bad))
    with pytest.raises(BadImages, match=reason) as caught:
        pixels(frame, SIZE)
    assert caught.value.paths == [bad]
    for told in ("1 of 5 images", bad, "frame[~frame.path.isin(error.paths)]"):
        assert told in str(caught.value)
    assert [file.suffix for file in cache.iterdir()] == [".u8"]
    # the advice works, and the others are not decoded again
    decoded.clear()
    images = pixels(frame[~frame.path.isin(caught.value.paths)], SIZE)
    assert decoded == []
    np.testing.assert_array_equal(images, [noise(*SIZE, 3, seed=i) for i in (0, 2, 3, 4)])


def test_many_bad_images_are_gathered_and_the_message_stays_short(tmp_path, cache):
    paths = [tmp_path / f"{i}.jpg" for i in range(9)]
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(BadImages, match="9 of 9 images") as caught:
        pixels(pd.DataFrame({"path": paths}), SIZE)
    assert caught.value.paths == [str(path) for path in paths]
    assert "8.jpg" not in str(caught.value)
    assert "and 4 more" in str(caught.value)
    assert list(cache.iterdir()) == []
    again = pickle.loads(pickle.dumps(caught.value))  # as from a worker process
    assert (str(again), again.reasons) == (str(caught.value), caught.value.reasons)


class FullDisk:
    """A file on a disk with room for two images."""

    def __init__(self, file):
        self.file, self.room = file, 2 * SIZE[0] * SIZE[1] * 3

    def write(self, image):
        self.room -= image.nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(image)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(frame, cache, monkeypatch):
    whole, write = pixels(frame[:2], SIZE), decoding._decode_into
    monkeypatch.setattr(decoding, "_decode_into", lambda out, *rest: write(FullDisk(out), *rest))
    with pytest.raises(OSError, match=r"No space left on device: cannot write .* REIDKIT_CACHE") as caught:
        pixels(frame, SIZE)
    assert caught.value.errno == errno.ENOSPC
    assert str(cache) in str(caught.value)
    assert list(cache.iterdir()) == [Path(whole.filename)]
    monkeypatch.undo()
    assert len(pixels(frame, SIZE, cache=cache)) == 5


def test_a_cache_that_cannot_be_a_folder(frame, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot write the decoded images"):
        pixels(frame, SIZE, cache=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_ctrl_c_leaves_nothing(frame, cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "_decode_into", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pixels(frame, SIZE)
    assert list(cache.iterdir()) == []


KILLED = """
import os, signal, sys
import pandas as pd
import reidkit.decoding as decoding
decode = decoding._decode
decoding._decode = lambda path, size: os.kill(os.getpid(), signal.SIGKILL) if "3.png" in path else decode(path, size)
decoding.CHUNK = 1
decoding.pixels(pd.DataFrame({"path": sys.argv[1:]}), (16, 8), workers=1)
"""


def test_a_killed_run_leaves_no_cache_and_its_litter_is_swept_later(frame, cache):
    run = subprocess.run([sys.executable, "-c", KILLED, *frame["path"]], capture_output=True)
    assert run.returncode == -9, run.stderr
    (litter,) = cache.iterdir()
    assert litter.suffix == ".tmp"
    images = pixels(frame, SIZE)
    np.testing.assert_array_equal(images, [noise(*SIZE, 3, seed=i) for i in range(5)])
    assert litter.exists()  # may be somebody's who is still at it
    yesterday = time.time() - 86400
    os.utime(litter, (yesterday, yesterday))
    pixels(frame[:3], SIZE)
    assert sorted(file.suffix for file in cache.iterdir()) == [".u8", ".u8"]


def test_two_writers_at_once(frame, cache, monkeypatch):
    """The second begins and ends while the first is writing."""
    write, nested = decoding._decode_into, []

    def slow(*arguments):
        if not nested:
            nested.append(None)
            nested[0] = pixels(frame, SIZE)
        return write(*arguments)

    monkeypatch.setattr(decoding, "_decode_into", slow)
    np.testing.assert_array_equal(pixels(frame, SIZE), nested[0])
    assert len(list(cache.iterdir())) == 1


def test_a_cache_file_cut_short_by_somebody_is_made_again(frame):
    first = pixels(frame, SIZE)
    expected, file = np.array(first), Path(first.filename)
    del first
    os.truncate(file, 100)
    np.testing.assert_array_equal(pixels(frame, SIZE), expected)


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    """As thermal and depth cameras save them; Pillow's own conversion clips all above 255 to white."""
    grey = np.linspace(0, 65535, 8).astype(np.uint16)[:, None].repeat(4, 1)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    Image.fromarray((grey >> 8).astype(np.uint8)).save(tmp_path / "flat.png")
    deep, flat = pixels(pd.DataFrame({"path": [tmp_path / "deep.png", tmp_path / "flat.png"]}), (8, 4))
    np.testing.assert_array_equal(deep, flat)
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "wide.tiff")
    with pytest.raises(BadImages, match=r"wide.tiff: pixels of 32 bits \(mode I\)"):
        pixels(pd.DataFrame({"path": [tmp_path / "wide.tiff"]}), (8, 4))
