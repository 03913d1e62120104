import os

import h5py
import layouts
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reidkit.datasets import DatasetError, cuhk03, load
from reidkit.datasets.base import parse


def rows(frame):
    """(file name, pid, camid) of each image."""
    return [(os.path.basename(path), pid, camid) for path, pid, camid, *_ in frame.itertuples(index=False)]


@pytest.fixture
def root(tmp_path):
    return layouts.cuhk03(tmp_path / "cuhk03")


@given(st.integers(1, 5), st.integers(1, 843), st.integers(1, 10))
def test_names_round_trip(pair, person, index):
    view = 1 if index <= 5 else 2
    name = f"/{pair}_{person:03d}_{view}_{index:02d}.png"
    row = parse([name], cuhk03.NAME, "").iloc[0]
    assert row.to_dict() == {"path": name, "pid": person, "camid": view - 1, "seq": pair, "frame": index}


@pytest.mark.parametrize("images", ["labeled", "detected"])
def test_images_come_out_upright_once(root, images):
    cuhk = load("cuhk03", root.parent, images=images)
    place = root / f"images_{images}"
    expected = {}
    for pair, persons in enumerate(layouts.PERSONS, 1):
        for person in range(1, persons + 1):
            for index in layouts.cuhk_views(pair, person):
                view = 1 if index < 5 else 2
                expected[f"{pair}_{person:03d}_{view}_{index + 1:02d}.png"] = layouts.cuhk_pixels(pair, person, index)
    assert sorted(os.listdir(place)) == sorted(expected)
    for name, pixels in expected.items():
        with Image.open(place / name) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
    assert not (root / f"images_{'detected' if images == 'labeled' else 'labeled'}").exists()
    os.unlink(root / "cuhk03_release" / "cuhk-03.mat")  # the images are not written twice
    (root / "cuhk-03.mat").touch()
    assert load("cuhk03", root, images=images).fingerprint == cuhk.fingerprint


def test_the_new_protocol(root):
    cuhk = load("cuhk03", root)
    assert cuhk.protocol == {"images": "detected", "protocol": "new"}
    assert rows(cuhk.train)[:3] == [("1_002_1_01.png", 2, 0), ("1_002_1_02.png", 2, 0), ("1_002_2_06.png", 2, 1)]
    assert rows(cuhk.query) == [
        ("1_001_1_01.png", 1, 0),
        ("1_001_2_06.png", 1, 1),
        ("2_001_1_01.png", 4, 0),
        ("2_001_2_06.png", 4, 1),
    ]
    assert rows(cuhk.gallery) == [("1_001_2_07.png", 1, 1), ("2_001_1_02.png", 4, 0)]
    assert cuhk.train["pid"].unique().tolist() == [2, 5, 6]
    assert cuhk.train["seq"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_the_classic_protocol(root):
    first, second = (load("cuhk03", root, protocol="classic", split=split) for split in (0, 1))
    assert first.protocol == {"images": "detected", "protocol": "classic", "split": 0}
    # split 0 tests person 1 of pair 1 and person 2 of pair 2, who is the fifth of all
    assert first.query["pid"].unique().tolist() == [1, 5]
    assert first.train["pid"].unique().tolist() == [2, 3, 4, 6, 7, 8]
    assert second.query["pid"].unique().tolist() == [1, 3, 4]
    assert rows(second.query)[-1] == ("2_001_2_06.png", 4, 1)
    assert rows(first.query) == rows(first.gallery)
    assert len(first.train) + len(first.query) == 8 * 3


def test_the_np_release(tmp_path):
    parts = {
        "detected/bounding_box_train": ["0003_c1_21.png", "0004_c2_31.png"],
        "detected/query": ["0001_c1_1.png"],
        "detected/bounding_box_test": ["0001_c2_6.png", "0002_c1_11.png"],
    }
    layouts.folders(tmp_path / "cuhk03-np", parts)
    cuhk = load("cuhk03", tmp_path)
    assert rows(cuhk.gallery) == [("0001_c2_6.png", 1, 1), ("0002_c1_11.png", 2, 0)]
    assert cuhk.protocol == {"images": "detected", "protocol": "new"}
    with pytest.raises(
        DatasetError, match=r"CUHK03 is not in .*cuhk-03.mat.*labeled/bounding_box_train.*README.md#cuhk03"
    ):
        load("cuhk03", tmp_path, images="labeled")
    with pytest.raises(DatasetError, match=r"CUHK03 is not in .*cuhk-03.mat"):
        load("cuhk03", tmp_path, protocol="classic")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"images": "labelled"}, "images must be 'labeled' or 'detected'; got 'labelled'"),
        ({"protocol": "old"}, "protocol must be 'new' or 'classic'; got 'old'"),
        ({"split": 3}, "the new protocol has one split; split=3 is for protocol='classic'"),
        ({"protocol": "classic", "split": 2}, "split must be 0 … 1; got 2"),
        ({"protocol": "classic", "split": -1}, "split must be 0 … 1; got -1"),
    ],
)
def test_protocols_that_do_not_exist(root, protocol, message):
    with pytest.raises(DatasetError, match=message):
        load("cuhk03", root, **protocol)


def test_the_new_protocol_needs_its_file(root):
    name = "cuhk03_new_protocol_config_labeled.mat"
    (root / name).rename(root / "cuhk03_release" / name)
    assert len(load("cuhk03", root, images="labeled").query) == 4
    (root / "cuhk03_release" / name).write_bytes(b"half a file")
    with pytest.raises(DatasetError, match=rf"{name} cannot be read.*README.md#cuhk03"):
        load("cuhk03", root, images="labeled")
    (root / "cuhk03_release" / name).unlink()
    with pytest.raises(DatasetError, match=rf"incomplete: missing {name}"):
        load("cuhk03", root, images="labeled")


@pytest.mark.parametrize("protocol", ["new", "classic"])
def test_a_file_that_was_cut_short_leaves_nothing_behind(root, protocol):
    mat = root / "cuhk03_release" / "cuhk-03.mat"
    os.truncate(mat, mat.stat().st_size // 2)
    with pytest.raises(DatasetError, match=r"cuhk-03.mat is no MATLAB 7.3 file, or was cut short.*README.md#cuhk03"):
        load("cuhk03", root, protocol=protocol)
    assert not [name for name in os.listdir(root) if "images" in name]


def test_another_file_is_not_cuhk03(root):
    mat = root / "cuhk03_release" / "cuhk-03.mat"
    with h5py.File(mat, "r+") as file:
        del file["testsets"]
    with pytest.raises(DatasetError, match=r"has no testsets: not CUHK03's file"):
        load("cuhk03", root)


def test_images_are_written_all_or_not_at_all(root, monkeypatch):
    save, calls = Image.Image.save, []

    def disk_full(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 7:
            raise OSError(28, "No space left on device")
        save(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", disk_full)
    with pytest.raises(DatasetError, match=r"No space left on device.*nothing was kept"):
        load("cuhk03", root)
    assert len(calls) == 7
    assert not [name for name in os.listdir(root) if "images" in name]
    assert len(load("cuhk03", root).train) == 9


def test_two_processes_at_once(root, monkeypatch):
    replace = os.replace

    def late(partial, target):  # another process finishes first
        os.mkdir(target)
        for name in os.listdir(partial):
            os.link(os.path.join(partial, name), os.path.join(target, name))
        replace(partial, target)

    monkeypatch.setattr(os, "replace", late)
    assert len(load("cuhk03", root).train) == 9
    assert [name for name in os.listdir(root) if "images" in name] == ["images_detected"]


def test_a_folder_that_cannot_be_written_into(root, monkeypatch):
    def refused(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(root), "mkdir", refused)
    with pytest.raises(DatasetError, match=r"cannot be written into .*Permission denied.*links to its .mat"):
        load("cuhk03", root)


def test_images_that_another_tool_left_half_written(root):
    load("cuhk03", root)
    os.unlink(root / "images_detected" / "1_002_1_01.png")
    with pytest.raises(DatasetError, match=r"lacks 1 of the images in .*, such as 1_002_1_01.png; delete that folder"):
        load("cuhk03", root)


def test_published_counts_are_checked(root, monkeypatch):
    published = {"train images": 9, "query images": 4, "gallery images": 3}
    monkeypatch.setattr(cuhk03, "PUBLISHED", {"detected": published})
    monkeypatch.setattr(cuhk03, "IDENTITIES", {})
    with pytest.raises(DatasetError, match=r"not what was published \(gallery images 2, not 3\)"):
        load("cuhk03", root)
    with pytest.raises(DatasetError, match=r"\(all images 24, not 16; train identities 6, not 1,367; query"):
        load("cuhk03", root, protocol="classic")
