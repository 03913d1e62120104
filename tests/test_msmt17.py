import os

import layouts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.datasets import DatasetError, load, msmt17
from reidkit.datasets.base import parse


def labels_of(frame):
    return list(zip(frame["pid"], frame["camid"], strict=True))


@given(
    st.integers(0, 4100),
    st.integers(0, 999),
    st.integers(1, 15),
    st.sampled_from(["0303morning", "0302noon", "0113afternoon"]),
    st.integers(0, 9999),
    st.integers(0, 99),
    st.sampled_from(["", "_ex"]),
)
def test_names_round_trip(pid, number, camera, time, frame, box, ex):
    name = f"/{pid:04d}_{number:03d}_{camera:02d}_{time}_{frame:04d}_{box}{ex}.jpg"
    row = parse([name], msmt17.NAME, "").iloc[0]
    assert row.to_dict() == {"path": name, "pid": pid, "camid": camera - 1, "seq": time, "frame": frame}


@pytest.mark.parametrize(
    ("place", "parts", "version"),
    [
        ("MSMT17_V1", ("train", "test"), "V1"),
        ("msmt17/MSMT17_V2", ("mask_train_v2", "mask_test_v2"), "V2"),
        ("", ("train", "test"), "V1"),
    ],
)
def test_both_versions_are_found_and_named(tmp_path, place, parts, version):
    root = tmp_path / "my data" / place
    root.mkdir(parents=True)
    layouts.msmt17(root, *parts)
    msmt = load("msmt17", tmp_path / "my data")
    assert msmt.root == root
    assert msmt.protocol == {"train": "train+val", "version": version}
    assert msmt.summary().columns.name == f"msmt17 (train=train+val, version={version})"
    assert labels_of(msmt.train) == [(0, 0), (0, 2), (1, 14)]
    assert labels_of(msmt.query) == [(0, 0)]
    assert labels_of(msmt.gallery) == [(0, 1), (1, 6)]
    assert msmt.train["seq"].tolist() == ["0303morning", "0113afternoon", "0114noon"]
    assert msmt.gallery["path"][1] == str(root / parts[1] / "0001" / "0001_000_07_0302noon_0600_2.jpg")
    # person 0 is a person
    assert msmt.summary().loc["gallery"].tolist() == [2, 2, 2, 0, 0]


def test_train_without_val_must_be_asked_for(tmp_path):
    layouts.msmt17(tmp_path)
    msmt = load("msmt17", tmp_path, train="train")
    assert labels_of(msmt.train) == [(0, 0), (1, 14)]
    assert msmt.protocol["train"] == "train"
    assert msmt.fingerprint != load("msmt17", tmp_path).fingerprint
    with pytest.raises(DatasetError, match=r"train must be 'train' or 'train\+val'; got 'all'"):
        load("msmt17", tmp_path, train="all")


def test_the_lists_name_the_pids_and_the_order_of_their_lines_does_not_matter(tmp_path):
    lists = {name: [line[:-1] + str(5 + int(line[-1])) for line in lines] for name, lines in layouts.MSMT.items()}
    layouts.msmt17(tmp_path, lists={name: lines[::-1] for name, lines in lists.items()})
    assert labels_of(load("msmt17", tmp_path).gallery) == [(5, 1), (6, 6)]


@pytest.mark.parametrize("piece", ["train", "test", "list_val.txt", "list_query.txt"])
def test_a_half_copied_benchmark_names_what_is_missing(tmp_path, piece):
    layouts.msmt17(tmp_path)
    (tmp_path / piece).rename(tmp_path / "lost")
    with pytest.raises(DatasetError) as error:
        load("msmt17", tmp_path)
    assert f"MSMT17 in {tmp_path} is incomplete: missing {piece}. " in str(error.value)
    assert "data/README.md#msmt17" in str(error.value)


def test_listed_images_that_are_not_there_are_counted(tmp_path):
    layouts.msmt17(tmp_path)
    lost = "0001/0001_000_07_0302noon_0600_2.jpg"
    os.unlink(tmp_path / "test" / lost)
    message = rf"of the 2 images in list_gallery.txt, 1 are missing from test, such as {lost}"
    with pytest.raises(DatasetError, match=message):
        load("msmt17", tmp_path)


def test_lines_and_names_that_do_not_parse(tmp_path):
    layouts.msmt17(tmp_path)
    with open(tmp_path / "list_query.txt", "a") as file:
        file.write("0001/0001_000_07_0302noon_0600_2.jpg\n\n")
    with pytest.raises(DatasetError, match=r"list_query.txt: 1 of 2 names do not parse.*lines of a path and a pid"):
        load("msmt17", tmp_path)
    layouts.msmt17(tmp_path, lists=layouts.MSMT | {"query": ["0000/person 0.jpg 0"]})
    with pytest.raises(DatasetError, match=r"'person 0.jpg'; expected MSMT17 names"):
        load("msmt17", tmp_path)


def test_published_counts_are_checked(tmp_path, monkeypatch):
    layouts.msmt17(tmp_path)
    monkeypatch.setattr(msmt17, "PUBLISHED", {"gallery images": 2})
    monkeypatch.setattr(msmt17, "PUBLISHED_TRAIN", {"train": 2, "train+val": 4})
    assert len(load("msmt17", tmp_path, train="train").train) == 2
    with pytest.raises(DatasetError, match=r"not what was published \(train images 3, not 4\)"):
        load("msmt17", tmp_path)


def test_lists_of_other_editors(tmp_path):
    layouts.msmt17(tmp_path)
    file = tmp_path / "list_gallery.txt"
    text = file.read_text()
    file.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")  # as Notepad saves it
    assert len(load("msmt17", tmp_path).gallery) == 2
    file.write_text(text, encoding="utf-16")  # as PowerShell does
    with pytest.raises(DatasetError, match=r"list_gallery.txt is no UTF-8 text: save it as such"):
        load("msmt17", tmp_path)
