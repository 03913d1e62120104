"""Market-1501, and the data sets of the same layout: DukeMTMC-reID and a folder of one's own."""

import os

import layouts
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.datasets import DatasetError, dukemtmc, folder, load, market1501
from reidkit.datasets.base import parse


def labels_of(frame):
    return list(zip(frame["pid"], frame["camid"], strict=True))


@pytest.fixture
def root(tmp_path):
    return layouts.folders(tmp_path / "a folder with spaces" / "Market-1501-v15.09.15", layouts.MARKET)


# ---- names

numbers = st.integers(0, 9999)


@given(st.one_of(st.just(-1), numbers), st.integers(1, 40), numbers, st.integers(0, 999_999), st.integers(0, 99))
def test_market_names_round_trip(pid, camera, seq, frame, box):
    name = f"{pid:04d}" if pid >= 0 else "-1"
    name += f"_c{camera}s{seq}_{frame:06d}_{box:02d}.jpg"
    for pattern in (market1501.NAME, market1501.LOOSE):
        row = parse([f"/some/where_c9s9_9_9/{name}"], pattern, "").iloc[0]
        assert row.to_dict() == {
            "path": f"/some/where_c9s9_9_9/{name}",
            "pid": pid,
            "camid": camera - 1,
            "seq": seq,
            "frame": frame,
        }


@given(numbers, st.integers(1, 40), st.integers(0, 9_999_999))
def test_duke_names_round_trip(pid, camera, frame):
    name = f"/{pid:04d}_c{camera}_f{frame:07d}.jpg"
    row = parse([name], dukemtmc.NAME, "").iloc[0]
    assert row.to_dict() == {"path": name, "pid": pid, "camid": camera - 1, "frame": frame}


@given(numbers, st.integers(1, 40), st.text("abc_-. é0", max_size=8).filter(lambda t: not t[:1].isdigit()))
def test_a_name_of_ones_own_needs_only_person_and_camera(pid, camera, rest):
    row = parse([f"/{pid}_c{camera}{rest}.png"], market1501.LOOSE, "").iloc[0]
    assert (row["pid"], row["camid"]) == (pid, camera - 1)
    assert "seq" not in row


@given(st.text(st.characters(codec="ascii", exclude_characters="/"), max_size=20))
def test_other_names_are_refused_or_hold_person_and_camera(name):
    try:
        row = parse(["/" + name], market1501.LOOSE, "").iloc[0]
    except DatasetError:
        return
    assert name.startswith(("-1_c", *(f"{digit}" for digit in range(10))))
    assert row["camid"] >= 0


# ---- Market-1501


@pytest.mark.parametrize("place", ["", "market1501", "market1501/Market-1501-v15.09.15", "Market-1501-v15.09.15"])
def test_the_folder_is_found_by_its_usual_names(tmp_path, place):
    layouts.folders(tmp_path / place, layouts.MARKET)
    assert load("market1501", tmp_path).root == tmp_path / place


def test_a_relative_root_gives_absolute_paths(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert load("market1501", ".").train["path"][0] == str(root / "bounding_box_train/0002_c1s1_000451_03.jpg")


def test_labels_and_columns(root):
    market = load("market1501", root)
    assert market.protocol == {"distractors": 0}
    assert labels_of(market.train) == [(2, 0), (2, 1), (7, 2)]
    assert labels_of(market.query) == [(1, 0), (3, 1)]
    assert labels_of(market.gallery) == [(-1, 0), (0, 0), (1, 0), (1, 1), (3, 2)]
    assert market.train["seq"].tolist() == [1, 1, 3]
    assert market.train["frame"].tolist() == [451, 776, 77419]


def test_multi_query_keeps_the_boxes_that_share_person_and_camera_with_a_query(root):
    names = [os.path.basename(path) for path in load("market1501", root).multi_query["path"]]
    assert names == ["0001_c1s1_001051_00.jpg", "0001_c1s1_001076_00.jpg"]
    for image in (root / "gt_bbox").iterdir():
        image.unlink()
    (root / "gt_bbox").rmdir()
    assert load("market1501", root).multi_query is None


@pytest.mark.parametrize("place", ["images", "../images"])
def test_distractors_are_the_first_in_name_order_and_come_after_the_gallery(root, place):
    names = ["0000_c1s1_000007_00.jpg", "0000_c1s1_000020_00.jpg", "0009_c3s1_000007_00.jpg", "0009_c4_other.jpg"]
    layouts.folders(root, {place: names[::-1]})
    plain, more = load("market1501", root), load("market1501", root, distractors=np.int64(3))
    assert more.protocol == {"distractors": 3}
    assert labels_of(more.gallery) == [*labels_of(plain.gallery), (0, 0), (0, 0), (0, 2)]
    assert [os.path.basename(path) for path in more.gallery["path"][5:]] == names[:3]
    assert more.gallery.index.tolist() == list(range(8))
    assert more.gallery.dtypes.equals(plain.gallery.dtypes)
    assert more.summary().loc["gallery", "distractors"] == 4
    all_of_them = load("market1501", root, distractors=4).gallery
    assert list(all_of_them) == ["path", "pid", "camid"]  # not every name has more
    with pytest.raises(DatasetError, match=r"images holds 4 images, not 5"):
        load("market1501", root, distractors=5)


@pytest.mark.parametrize("count", [-1, 0.5, "100k", None])
def test_a_count_of_distractors_is_a_count(root, count):
    with pytest.raises(DatasetError, match=rf"distractors must be a count, 0 or more; got {count!r}"):
        load("market1501", root, distractors=count)


def test_distractors_that_are_not_there(root):
    with pytest.raises(DatasetError, match=r"500k distractors are not in .*images.*data/README.md#market-1501"):
        load("market1501", root, distractors=10)


@pytest.mark.parametrize("part", ["bounding_box_train", "query", "bounding_box_test"])
def test_a_half_copied_benchmark_names_what_is_missing(root, part):
    (root / part).rename(root / "lost")
    with pytest.raises(DatasetError) as error:
        load("market1501", root.parent)
    assert f"{root} is incomplete: missing {part}. How to get it: data/README.md#market-1501." in str(error.value)
    (root / part).mkdir()
    (root / part / "Thumbs.db").touch()
    with pytest.raises(DatasetError, match=rf"{part} holds no images.*data/README.md#market-1501"):
        load("market1501", root.parent)


def test_bad_names_are_gathered(root):
    for name in ("IMG_1.jpg", "0001_c0s1_000451_03.jpg", "c1s1_000451_03.jpg", "person.png"):
        layouts.image(root / "query" / name)
    with pytest.raises(DatasetError) as error:
        load("market1501", root)
    assert f"{root / 'query'}: 4 of 6 names do not parse: '0001_c0s1_000451_03.jpg', " in str(error.value)
    assert "'IMG_1.jpg', 'c1s1_000451_03.jpg', …; expected Market-1501 names such as 0002_c1s1_" in str(error.value)


@pytest.mark.parametrize(("part", "name"), [("bounding_box_train", "0000_c1s1_0_0.jpg"), ("query", "-1_c1s1_0_0.jpg")])
def test_nobody_is_not_trained_on_nor_searched_for(root, part, name):
    layouts.image(root / part / name)
    with pytest.raises(DatasetError, match=rf"1 images in .*{part} have pid 0 or -1.*number people from 1"):
        load("market1501", root)


def test_load_checks_what_read_does_not(tmp_path):
    one_camera = {part: [name for name in names if "_c1" in name] for part, names in layouts.MARKET.items()}
    layouts.folders(tmp_path, one_camera | {"bounding_box_train": layouts.MARKET["bounding_box_train"]})
    assert len(market1501.read(tmp_path).query) == 1
    with pytest.raises(DatasetError, match=r"cameras in the file names: 1$"):
        load("market1501", tmp_path)


def test_published_counts_are_checked(root, monkeypatch):
    published = {"train images": 3, "gallery images": 6, "query identities": 2}
    monkeypatch.setattr(market1501, "PUBLISHED", published)
    with pytest.raises(DatasetError) as error:
        load("market1501", root)
    assert "is not what was published (gallery images 5, not 6)" in str(error.value)
    assert f"load('folder', {str(root)!r}) opens it as it is" in str(error.value)
    assert len(load("folder", root).gallery) == 5
    monkeypatch.setitem(published, "gallery images", 5)
    assert len(load("market1501", root).gallery) == 5


# ---- DukeMTMC-reID


@pytest.mark.parametrize("place", ["", "DukeMTMC-reID", "dukemtmc", "dukemtmc-reid/DukeMTMC-reID"])
def test_duke(tmp_path, place):
    layouts.folders(tmp_path / place, layouts.DUKE)
    duke = load("dukemtmc", tmp_path)
    assert duke.root == tmp_path / place
    assert labels_of(duke.train) == [(1, 1), (5, 7)]
    assert labels_of(duke.gallery) == [(2, 1), (6, 1)]
    assert duke.query["frame"].tolist() == [44158]
    assert list(duke.query) == ["path", "pid", "camid", "frame"]
    assert duke.multi_query is None


def test_one_benchmark_is_not_taken_for_another(tmp_path):
    layouts.folders(tmp_path, layouts.DUKE)
    with pytest.raises(DatasetError, match=r"2 of 2 names do not parse: '0001_c2_f0046182.jpg'.*expected Market-1501"):
        load("market1501", tmp_path)


# ---- a folder of one's own


def test_a_folder_needs_no_training_images(tmp_path):
    layouts.folders(tmp_path, {"query": ["1_c1_me.png"], "bounding_box_test": ["1_c12.jpg", "2_c2_x.jpeg", "0_c1.bmp"]})
    own = load("folder", tmp_path)
    assert own.train.empty
    assert own.train["pid"].dtype == own.train["camid"].dtype == np.int64
    assert labels_of(own.gallery) == [(0, 0), (1, 11), (2, 1)]
    assert list(own.gallery) == ["path", "pid", "camid"]
    assert own.summary().loc["train"].tolist() == [0, 0, 0, 0, 0]
    assert len(own.fingerprint) == 16


def test_a_folder_keeps_sequence_and_frame_where_every_name_has_them(root):
    assert list(load("folder", root).train) == ["path", "pid", "camid", "seq", "frame"]
    layouts.image(root / "bounding_box_train" / "0007_c4_passing by.jpg")
    own = load("folder", root)
    assert list(own.train) == ["path", "pid", "camid"]
    assert list(own.query) == ["path", "pid", "camid", "seq", "frame"]


def test_a_folder_that_does_not_fit_says_what_is_expected(tmp_path):
    with pytest.raises(DatasetError, match=r"missing query, bounding_box_test.*data/README.md#your-own-images"):
        load("folder", tmp_path)
    layouts.folders(tmp_path, {"query": ["me.png"], "bounding_box_test": ["1_c2.jpg"]})
    with pytest.raises(DatasetError, match=rf"{folder.EXPECTED}$"):
        load("folder", tmp_path)
