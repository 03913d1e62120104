"""Oxford5k on a tiny folder of its layout: lists, boxes, and what is refused."""

import os

import layouts
import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import DatasetError, load, oxford5k
from reidkit.protocols import oxford5k as evaluate

NAMES = ["all_souls_000001", "all_souls_000002", "all_souls_000003", "christ_church_000001", "christ_church_000004"]
NAMES += ["oxford_001115"]
LISTS = {  # query file, good, ok, junk
    "all_souls_1": ("oxc1_all_souls_000001 1.0 2.0 7.0 9.6", NAMES[:1], NAMES[1:2], NAMES[2:4]),
    "all_souls_2": ("oxc1_all_souls_000002 0 0 8 12", NAMES[:2], [], []),
    "christ_church_1": ("oxc1_christ_church_000001 -3 0 4 5", NAMES[3:4], NAMES[4:5], NAMES[2:3]),
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "oxford5k"
    for i, name in enumerate(NAMES):
        layouts.image(folder / "oxbuild_images" / f"{name}.jpg", width=8 + i, height=12)
    (folder / "gt_files_170407").mkdir()
    for name, (query, *lists) in LISTS.items():
        (folder / "gt_files_170407" / f"{name}_query.txt").write_text(query + "\n")
        for kind, names in zip(("good", "ok", "junk"), lists, strict=True):
            (folder / "gt_files_170407" / f"{name}_{kind}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def test_lists_and_labels(root):
    oxford = load("oxford5k", root.parent)
    assert [os.path.basename(path) for path in oxford.gallery.path] == [f"{name}.jpg" for name in NAMES]
    assert oxford.query.name.tolist() == list(LISTS)
    assert oxford.query.pid.tolist() == [1, 1, 2]
    assert oxford.query.loc[0, ["left", "top", "right", "bottom"]].tolist() == [1.0, 2.0, 7.0, 9.6]
    assert oxford.relevant.tolist() == [
        [True, True, False, False, False, False],
        [True, True, False, False, False, False],
        [False, False, False, True, True, False],
    ]
    assert oxford.junk.nonzero()[1].tolist() == [2, 3, 2]
    assert oxford.gallery.pid.tolist() == [1, 1, -1, 2, 2, 0]  # the third is on junk lists alone
    assert (oxford.query.camid == 0).all()
    assert (oxford.gallery.camid == 1).all()
    assert oxford.train.empty
    assert oxford.summary().loc["gallery", "images"] == 6
    assert load("oxford5k", root).fingerprint == oxford.fingerprint


def test_what_the_reader_gives_the_evaluator_takes(root):
    oxford = load("oxford5k", root)
    gallery = np.eye(6)
    query = gallery[[0, 1, 3]] * 2 + 0.1 * gallery[[5, 5, 5]]
    # first query: itself, then (ties count against) three wrong ones of which one is not junk: ranks 1 and 4 of 4 kept
    found = evaluate(query, gallery, oxford.relevant, oxford.junk)
    assert found.ap[0] == pytest.approx(0.5 * 1 + 0.5 * (1 / 3 + 2 / 4) / 2)
    assert found.valid.all()


def test_pictures_are_cut_to_the_box_and_keep_their_size(root):
    oxford = load("oxford5k", root)
    assert [picture.shape for picture in oxford5k.pictures(oxford.query)] == [(8, 6, 3), (12, 8, 3), (5, 4, 3)]
    sizes = [picture.shape for picture in oxford5k.pictures(oxford.gallery)]
    assert sizes == [(12, 8 + i, 3) for i in range(6)]
    whole = np.asarray(Image.open(oxford.query.path[0]))
    np.testing.assert_array_equal(oxford5k.pictures(oxford.query)[0], whole[2:10, 1:7])


def test_other_names_of_the_folders(root):
    expected = load("oxford5k", root).relevant
    (root / "gt_files_170407").rename(root / "gt")
    (root / "oxbuild_images").rename(root / "jpg")
    np.testing.assert_array_equal(load("oxford5k", root).relevant, expected)
    for image in (root / "jpg").iterdir():
        image.rename(root / image.name)
    (root / "jpg").rmdir()
    np.testing.assert_array_equal(load("oxford5k", root).relevant, expected)


def test_images_to_train_on(root):
    for name in ("mill_01.jpg", "mill_02.jpg", "old_mill_01.jpg"):
        layouts.image(root / "train_images" / name)
    assert load("oxford5k", root).train.pid.tolist() == [1, 1, 2]
    layouts.image(root / "train_images" / "mill.jpg")
    with pytest.raises(DatasetError, match=r"'mill\.jpg' does not parse"):
        load("oxford5k", root)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("all_souls_1_good.txt", "all_souls_000099", "all_souls_1_good.txt names all_souls_000099"),
        ("all_souls_1_ok.txt", None, "missing all_souls_1_ok.txt"),
        ("all_souls_1_query.txt", "oxc1_all_souls_000001 1 2 3", "expected a name and a box"),
        ("all_souls_1_query.txt", "oxc1_all_souls_000001 5 2 3 9", "expected a name and a box"),
        ("all_souls_1_query.txt", "", "expected a name and a box"),
        ("all_souls_2_good.txt", "", "good and ok lists of all_souls_2 are both empty"),
    ],
)
def test_lists_that_do_not_fit_are_named(root, file, text, message):
    place = root / "gt_files_170407" / file
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(DatasetError, match=message):
        load("oxford5k", root)


def test_a_box_outside_its_image_is_named(root):
    (root / "gt_files_170407" / "all_souls_1_query.txt").write_text("oxc1_all_souls_000001 50 2 60 9")
    with pytest.raises(DatasetError, match="box of all_souls_1 lies outside"):
        oxford5k.pictures(load("oxford5k", root).query)


def test_missing_pieces(root, tmp_path):
    with pytest.raises(DatasetError, match=r"Oxford5k is not in .*data/README.md#oxford5k"):
        load("oxford5k", tmp_path / "elsewhere")
    for image in (root / "oxbuild_images").iterdir():
        image.unlink()
    with pytest.raises(DatasetError, match="lists and no images"):
        load("oxford5k", root)
    for lists in (root / "gt_files_170407").iterdir():
        lists.unlink()
    layouts.image(root / "oxbuild_images" / "a_1.jpg")
    with pytest.raises(DatasetError, match=r"holds no …_query\.txt"):
        load("oxford5k", root)


def test_a_copy_that_was_cut_short_is_refused(root, monkeypatch):
    monkeypatch.setattr(oxford5k, "PUBLISHED", {"query": (3,), "gallery": (7, 8)})
    with pytest.raises(DatasetError, match="6 gallery images, not 7"):
        load("oxford5k", root)
    monkeypatch.setattr(oxford5k, "PUBLISHED", {"query": (3,), "gallery": (6,)})
    load("oxford5k", root)


def test_what_the_lists_and_boxes_say_is_in_the_fingerprint(root):
    first = load("oxford5k", root).fingerprint
    assert load("oxford5k", root).fingerprint == first
    (root / "gt_files_170407" / "all_souls_1_query.txt").write_text("oxc1_all_souls_000001 1.0 2.0 7.0 9.5\n")
    second = load("oxford5k", root).fingerprint
    (root / "gt_files_170407" / "all_souls_2_junk.txt").write_text("oxford_001115\n")
    assert len({first, second, load("oxford5k", root).fingerprint}) == 3


def test_a_box_of_no_numbers_lists_that_are_no_folder_and_litter(root):
    lists = root / "gt_files_170407"
    (lists / "._all_souls_9_query.txt").write_bytes(b"\0")  # macOS
    assert len(load("oxford5k", root).query) == 3
    (lists / "all_souls_1_query.txt").write_text("oxc1_all_souls_000001 nan nan nan nan\n")
    with pytest.raises(DatasetError, match=r"all_souls_1_query.txt: expected a name and a box"):
        load("oxford5k", root)
    lists.rename(root / "lost")
    lists.touch()
    with pytest.raises(DatasetError, match=r"none of gt_files_170407, .* is a folder"):
        load("oxford5k", root)


def test_a_photograph_that_was_cut_short_is_named(root):
    path = root / "oxbuild_images" / "all_souls_000001.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"all_souls_000001.jpg cannot be read as an image"):
        oxford5k.pictures(load("oxford5k", root).gallery)
