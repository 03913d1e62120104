"""What all data sets share: splits, labels, summary, fingerprint, errors, and `load`."""

import os
import pickle
import shutil
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reidkit.datasets import NAMES, DatasetError, ReIDDataset, cache_dir, labels, load, load_seed
from reidkit.datasets.base import check_counts, images_in

ROOT = Path(__file__).parents[1]


@pytest.fixture
def market(tmp_path):
    layouts.folders(tmp_path / "Market-1501-v15.09.15", layouts.MARKET)
    return load("market1501", tmp_path)


def frame(*rows):
    """A split of (pid, camid) rows whose paths do not exist."""
    pids, camids = zip(*rows, strict=True) if rows else ((), ())
    paths = pd.Series([f"/none/{i:03d}.jpg" for i in range(len(rows))], dtype=str)
    return pd.DataFrame({"path": paths, "pid": np.array(pids, np.int64), "camid": np.array(camids, np.int64)})


def dataset(train, query, gallery):
    return ReIDDataset("tiny", Path("/none"), {}, frame(*train), frame(*query), frame(*gallery))


# ---- splits


def test_a_split_is_sorted_by_name_with_int64_labels_and_absolute_paths(market):
    names = [os.path.basename(path) for path in market.gallery["path"]]
    assert names == sorted(layouts.MARKET["bounding_box_test"])
    assert list(market.gallery) == ["path", "pid", "camid", "seq", "frame"]
    assert all(market.gallery[column].dtype == np.int64 for column in ("pid", "camid", "seq", "frame"))
    assert all(os.path.isabs(path) and os.path.isfile(path) for path in market.gallery["path"])
    assert list(market.gallery.index) == list(range(5))


def test_the_order_of_the_file_system_does_not_matter(market, monkeypatch):
    real = os.scandir

    class Backwards:
        def __init__(self, folder):
            with real(folder) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        __enter__ = lambda self: iter(self.entries)  # noqa: E731
        __exit__ = lambda self, *_: None  # noqa: E731

    monkeypatch.setattr(os, "scandir", Backwards)
    again = load("market1501", market.root)
    for split in market.splits:
        pd.testing.assert_frame_equal(market.splits[split], again.splits[split])


def test_what_is_no_image_is_passed_over(tmp_path):
    for name in ("Thumbs.db", "._0001_c1_1.jpg", ".DS_Store", "0001_c1_1.jpg.part", "readme.txt", "b.JPG", "a.png"):
        (tmp_path / name).touch()
    assert images_in(tmp_path) == [str(tmp_path / "a.png"), str(tmp_path / "b.JPG")]


@given(st.lists(st.integers(-1, 10**6), max_size=30))
def test_labels_are_contiguous_in_the_order_of_pids(pids):
    found = labels(frame(*((pid, 0) for pid in pids)))
    order = sorted(set(pids))
    assert found.dtype == np.int64
    assert found.tolist() == [order.index(pid) for pid in pids]


# ---- the dataset


def test_summary_counts_people_apart_from_distractors_and_junk(market):
    table = market.summary()
    assert list(table) == ["identities", "cameras", "images", "distractors", "junk"]
    assert table.loc["train"].tolist() == [2, 3, 3, 0, 0]
    assert table.loc["query"].tolist() == [2, 2, 2, 0, 0]
    assert table.loc["gallery"].tolist() == [2, 3, 5, 1, 1]
    assert table.columns.name == "market1501 (distractors=0)"


def test_pid_zero_is_a_person_where_a_query_bears_it():
    table = dataset([(0, 0), (1, 1)], [(0, 0)], [(0, 1), (4, 1), (-1, 1)]).summary()
    assert table.loc["train", "identities"] == 2
    assert table.loc["gallery"].tolist() == [2, 1, 3, 0, 1]


def test_repr_says_what_it_is(market):
    expected = "<market1501 (distractors=0): train 3 images of 2, query 2 images of 2, gallery 5 images of 2, "
    assert repr(market) == expected + f"multi_query 2 images of 1; {market.root}>"


def test_a_dataset_cannot_be_changed_but_pickled(market):
    with pytest.raises(FrozenInstanceError):
        market.train = market.query
    again = pickle.loads(pickle.dumps(market))
    assert again.fingerprint == market.fingerprint
    pd.testing.assert_frame_equal(again.train, market.train)


def test_fingerprint_follows_the_data_and_not_its_place(market, tmp_path):
    assert len(market.fingerprint) == 16
    assert int(market.fingerprint, 16) >= 0
    copy = shutil.copytree(market.root, tmp_path / "elsewhere, with spaces" / "market1501")
    assert load("market1501", copy).fingerprint == market.fingerprint
    seen = {market.fingerprint}
    for changed in (
        replace(market, name="other"),
        replace(market, protocol={"distractors": 1}),
        replace(market, train=market.train.assign(pid=market.train["pid"] + 1)),
        replace(market, train=market.train.assign(camid=market.train["camid"] + 1)),
        replace(market, query=market.gallery, gallery=market.query),
        replace(market, multi_query=None),
    ):
        seen.add(changed.fingerprint)
    with open(copy / "query" / layouts.MARKET["query"][0], "ab") as file:
        file.write(b"\0")
    seen.add(load("market1501", copy).fingerprint)
    assert len(seen) == 8


# ---- what cannot be used


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (([(1, 0), (2, 1)], [], [(3, 0)]), "the query split has no images"),
        (([(1, 0), (2, 1)], [(3, 0)], []), "the gallery split has no images"),
        (([(7, 0), (7, 1)], [(3, 0)], [(3, 1)]), r"all 2 training images show one identity \(pid 7\)"),
        (([(1, 0), (2, 0)], [(3, 0)], [(3, 0), (4, 0)]), "in the file names: 1$"),
        (([(1, 0), (2, 0)], [(3, 0)], [(3, 0), (4, 1)]), "seen by another camera.* in the file names: 1, 2$"),
    ],
)
def test_check_refuses_what_nothing_can_be_learnt_from_or_measured_on(splits, message):
    with pytest.raises(DatasetError, match=f"tiny in /none: .*{message}"):
        dataset(*splits).check()


def test_check_passes_one_good_query_and_an_empty_train():
    good = dataset([], [(3, 0), (4, 0)], [(3, 1)])
    assert good.check() is good


@pytest.mark.parametrize("images", [1, 4, 5, 9, 10, 11])
def test_counts_are_checked_only_where_the_real_data_must_be(images):
    found = dataset([(1, 0)], [(3, 0)], [(3, 1)] * images)
    published = {"gallery images": 10, "train identities": 1}
    if images in (1, 4, 10):  # less than half, or all
        check_counts(found, published, benchmark="Tiny", section="tiny")
    else:
        message = rf"Tiny in /none .* \(gallery images {images}, not 10\).*data/README.md#tiny"
        with pytest.raises(DatasetError, match=message):
            check_counts(found, published, benchmark="Tiny", section="tiny")


# ---- load


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("Market-1501", "market1501"), ("msmt", "msmt17"), ("DukeMTMC-reID", "dukemtmc"), ("plazza", "plaza")],
)
def test_an_unknown_name_gets_a_suggestion(name, suggestion):
    with pytest.raises(DatasetError, match=f"unknown data set '{name}': did you mean '{suggestion}'"):
        load(name)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(DatasetError, match=f"unknown data set 'xyz': The names are {', '.join(NAMES)}"):
        load("xyz")


def test_an_unknown_protocol_argument_names_the_allowed_ones(tmp_path):
    with pytest.raises(DatasetError, match="'folder' has no protocol argument 'gap': it takes none"):
        load("folder", tmp_path, gap=1.0)
    with pytest.raises(DatasetError, match="'market1501' has no protocol argument 'gap': it takes distractors"):
        load("market1501", tmp_path, gap=1.0)


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "msmt17", "cuhk03", "oxford5k", "folder"])
def test_a_missing_benchmark_says_where_it_looked_and_how_to_get_it(name, tmp_path):
    place = tmp_path / "no such folder"
    with pytest.raises(DatasetError) as error:
        load(name, place)
    assert str(place) in str(error.value)
    section = str(error.value).rpartition("data/README.md#")[2].rstrip(".")
    lines = (ROOT / "data" / "README.md").read_text().splitlines()
    assert section in [line.strip("# ").lower().replace(" ", "-") for line in lines if line.startswith("## ")]


def test_cache_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("REIDKIT_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("REIDKIT_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "reidkit"


def test_nothing_to_train_on_is_said_where_a_notebook_would_train(tmp_path):
    layouts.folders(
        tmp_path, {part: names for part, names in layouts.MARKET.items() if part in ("query", "bounding_box_test")}
    )
    assert load("folder", tmp_path).train.empty
    with pytest.raises(DatasetError, match=r"folder in .* has no training images"):
        load_seed("folder", tmp_path, 0)


def test_numbers_that_no_computer_counts_to_do_not_parse(tmp_path):
    layouts.folders(tmp_path, layouts.MARKET | {"query": ["20240131123059123456_c1s1_001051_00.jpg"]})
    with pytest.raises(DatasetError, match="1 of 1 names do not parse: '20240131123059123456_c1s1"):
        load("folder", tmp_path)


def test_a_name_need_not_be_utf8_and_a_bitmap_is_looked_into(tmp_path):
    root = layouts.folders(tmp_path, layouts.MARKET)
    odd = os.fsencode(root / "query") + b"/0001_c1s1_caf\xe9.jpg"
    os.rename(root / "query" / "0001_c1s1_001051_00.jpg", odd)
    assert load("folder", root).fingerprint
    bitmap = root / "query" / "0003_c2s1_000551_01.bmp"
    prints = set()
    for seed in (0, 1):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)).save(bitmap)
        prints.add(load("folder", root).fingerprint)
    assert len(prints) == 2
