"""Facades: Oxford5k's layout to the letter, the same bytes from the same seed, lists that tell the truth."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import DatasetError, facades, load
from reidkit.protocols import oxford5k

SMALL = {"world": 1, "buildings": 3, "train": 2, "views": 4, "others": 2, "side": 72}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("facades")
    facades.read(place, **SMALL)
    return place


def everything(folder):
    return {
        os.path.relpath(os.path.join(place, name), folder): Path(place, name).read_bytes()
        for place, _, names in os.walk(folder)
        for name in names
    }


def test_splits_and_lists(root):
    data = facades.read(root, **SMALL)
    assert data.name == "facades"
    assert data.protocol == SMALL
    table = data.summary()
    assert table.images.to_dict() == {"train": 8, "query": 9, "gallery": 3 * 5 + 2 * 2}
    assert table.identities.to_dict() == {"train": 2, "query": 3, "gallery": 3}
    assert table.distractors.gallery == 4
    own = data.query.pid.to_numpy()[:, None] == data.gallery.pid.to_numpy()[None]
    assert (own | ~data.relevant).all()  # nobody else's photograph is right
    assert data.junk.any()
    assert not (data.relevant & data.junk).any()
    assert (data.relevant.sum(1) >= 3).all()
    photographs = dict(zip(data.gallery.path, data.relevant.T, strict=True))
    for q, path in enumerate(data.query.path):  # a query is cut from a good photograph of its building
        assert photographs[path][q]
        assert data.query.name[q].rpartition("_")[0] in os.path.basename(path)


def test_any_oxford5k_reader_opens_it(root):
    made = facades.read(root, **SMALL)
    opened = load("oxford5k", made.root)
    np.testing.assert_array_equal(opened.relevant, made.relevant)
    np.testing.assert_array_equal(opened.junk, made.junk)
    assert opened.gallery.equals(made.gallery)


def test_same_seed_same_bytes_and_another_world_is_another(root, tmp_path):
    (made,) = (root / "facades").iterdir()
    assert everything(made) == everything(facades.generate(tmp_path / "again", **SMALL))
    other = everything(facades.generate(tmp_path / "other", **SMALL | {"world": 2}))
    assert not set(other.values()) & {v for k, v in everything(made).items() if k.endswith("jpg")}


def test_more_buildings_leave_the_others_as_they_are(root, tmp_path):
    (made,) = (root / "facades").iterdir()
    more = everything(facades.generate(tmp_path / "more", **SMALL | {"train": 3, "others": 3}))
    before = {name: data for name, data in everything(made).items() if name != "facades.json"}
    assert {name: more[name] for name in before} == before


def test_photographs_have_different_sizes_and_boxes_lie_inside(root):
    data = facades.read(root, **SMALL)
    sizes = {picture.shape for picture in facades.pictures(data.gallery)}
    assert len(sizes) > 3
    assert all(max(size) == 72 and min(size[:2]) >= 48 for size in sizes)
    for row in data.query.itertuples():
        with Image.open(row.path) as image:
            width, height = image.size
        assert 0 <= row.left < row.right <= width
        assert 0 <= row.top < row.bottom <= height


def test_views_of_a_building_are_nearer_than_other_buildings(root):
    """What a colour histogram can already see, so that there is something to learn and something to beat."""
    data = facades.read(root, **SMALL)

    def colours(frame):
        return np.stack([
            np.concatenate([np.histogram(p[..., c], 8, (0, 256))[0] for c in range(3)]) / p[..., 0].size
            for p in facades.pictures(frame)
        ])  # fmt: skip

    found = oxford5k(colours(data.query), colours(data.gallery), data.relevant, data.junk)
    chance = oxford5k(*(np.random.default_rng(0).normal(size=(n, 8)) for n in (9, 19)), data.relevant, data.junk)
    assert 0.99 > found.mAP > chance.mAP


def test_a_finished_world_is_left_alone_and_anything_else_is_not_touched(tmp_path):
    out = facades.generate(tmp_path / "world", **SMALL)
    when = (out / "facades.json").stat().st_mtime_ns
    assert facades.generate(out, **SMALL) == out
    assert (out / "facades.json").stat().st_mtime_ns == when
    with pytest.raises(DatasetError, match="holds something else"):
        facades.generate(out, **SMALL | {"views": 5})
    assert json.loads((out / "facades.json").read_text())["views"] == 4
    with pytest.raises(DatasetError, match="holds something else"):
        facades.generate(out / "facades.json", **SMALL)


def test_nothing_half_made_stays(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(facades, "_landmarks", full)
    with pytest.raises(DatasetError, match="No space left"):
        facades.generate(tmp_path / "world", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_of_two_processes_the_first_wins(tmp_path, monkeypatch):
    """The other process finishes while this one paints: its world stays, ours goes."""
    landmarks, other = facades._landmarks, facades.generate(tmp_path / "other", **SMALL)

    def slowly(*arguments):
        landmarks(*arguments)
        if not (tmp_path / "world").exists():
            shutil.copytree(other, tmp_path / "world")

    monkeypatch.setattr(facades, "_landmarks", slowly)
    facades.generate(tmp_path / "world", **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "world"]
    assert everything(tmp_path / "world") == everything(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"buildings": 0}, "buildings must be a whole number from 1 on; got 0"),
        ({"buildings": 99}, "buildings must be 26 or fewer"),
        ({"views": 2.5}, "views must be a whole number from 3"),
        ({"world": -1}, "world must be"),
        ({"train": True}, "train must be"),
    ],
)
def test_bad_arguments_are_named(arguments, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        facades.read(tmp_path, **SMALL | arguments)
