"""Plaza on disk: names, counts, the same bytes whoever makes them, and nothing half-written."""

import errno
import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image

from reidkit.datasets import DatasetError, cuhk03, load, plaza
from reidkit.datasets.market1501 import NAME
from reidkit.datasets.plaza_plan import STRANGERS, market_jobs

TINY = {"train_ids": 2, "test_ids": 3, "cameras": 3, "images": (1, 2), "height": 64}


def make(out, **change):
    return plaza.generate(out, **(TINY | {"workers": 1, "progress": False} | change))


def digest(folder):
    """Every file of a folder with its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make(tmp_path_factory.mktemp("plaza") / "world")


# ---- the layout


def test_names_are_those_of_market1501(world):
    for folder in ("bounding_box_train", "query", "bounding_box_test", "gt_bbox"):
        names = [path.name for path in (world / folder).iterdir()]
        assert names
        assert all(NAME.fullmatch(name) for name in names)
        assert all(re.fullmatch(r"(-1|\d{4})_c[1-9]s[1-9]_\d{6}_\d{2}\.jpg", name) for name in names)
    assert all(path.name.endswith("_00.jpg") for path in (world / "query").iterdir())
    with Image.open(next((world / "query").iterdir())) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (32, 64), "RGB")


def test_splits_are_disjoint_and_complete(tmp_path):
    d = load("plaza", tmp_path, **TINY, workers=1, progress=False, junk=5, distractors=9)
    assert d.name == "plaza"
    assert d.protocol["cameras_per_id"] == (3, 3)
    assert sorted(set(d.train.pid)) == [1, 3]
    assert sorted(set(d.query.pid)) == [2, 4, 6]
    counts = d.gallery.pid.value_counts()
    assert counts[-1] == 5
    assert counts[0] == 9
    assert d.root.parent == tmp_path / "plaza"
    # one query per identity and camera, whose person other cameras see too
    assert len(d.query) == len(d.query[["pid", "camid"]].drop_duplicates()) == 9
    people = d.gallery[d.gallery.pid > 0]
    assert people.groupby(["pid", "camid"]).size().between(1, 2).all()
    assert len(d.multi_query) == len(people) + len(d.query)
    again = load("plaza", tmp_path, **TINY, workers=1, progress=False, junk=5, distractors=9)
    assert again.fingerprint == d.fingerprint
    assert load("plaza", d.root, **TINY, junk=5, distractors=9).fingerprint == d.fingerprint


def test_a_world_of_market_size_has_its_counts():
    plan = plaza.Plan(**plaza.MARKET_SIZE)
    files = [file for job in market_jobs(plan) for file in job.files]
    assert len(set(files)) == len(files)
    where = [file.split("/")[0] for file in files]
    assert 12_000 < where.count("bounding_box_train") < 15_000
    assert 3_000 < where.count("query") < 3_700
    assert 18_000 < where.count("bounding_box_test") < 21_500
    names = [file.split("/")[1] for file in files]
    assert sum(name.startswith("-1_") for name in names) == 3_819
    assert sum(name.startswith("0000_") for name in names) == 2_798
    people = {int(name[:4]) for name in names if not name.startswith(("-1", "0000"))}
    assert people == set(range(1, 1502))  # 751 odd ones to train on, 750 even ones to test on
    assert all(NAME.fullmatch(name) for name in names)


def test_default_sizes_are_what_the_notebooks_count_on():
    plan = plaza.Plan()
    jobs = list(market_jobs(plan))
    train = [len(job.files) for job in jobs if job.files[0].startswith("bounding_box_train")]
    assert len(train) == 100
    assert 13 < np.mean(train) < 18
    assert 4 < np.mean([len(plan.cameras_of(pid)) for pid in plan.train_pids]) < 5
    passages = [{shot.tracklet for shot, _ in plan.visit(pid, 0)} for pid in plan.train_pids]
    assert {len(p) for p in passages} == {1, 2}


def test_a_larger_world_keeps_its_people():
    small, large = plaza.Plan(train_ids=3, test_ids=4), plaza.Plan(train_ids=30, test_ids=40)
    jobs = {job.files: job for job in market_jobs(large)}
    own = [job for job in market_jobs(small) if job.pid < STRANGERS and "/-1_" not in job.files[0]]
    assert all(job.files in jobs and jobs[job.files] == job for job in own)


def test_a_person_of_one_camera_is_no_query():
    plan = plaza.Plan(train_ids=2, test_ids=60, cameras_per_id=(1, 2), junk=0)
    for job in market_jobs(plan):
        asked = any(file.startswith("query") for file in job.files)
        assert asked == (len(plan.cameras_of(job.pid)) == 2 and job.pid % 2 == 0)


# ---- the same bytes


def test_workers_do_not_change_a_byte(world, tmp_path):
    assert digest(make(tmp_path / "two", workers=2)) == digest(world)


def test_another_gap_or_world_is_another_set_of_the_same_names(world, tmp_path):
    other = digest(make(tmp_path / "gap", gap=0.0))
    ours = digest(world)
    assert other.keys() == ours.keys()
    assert all(other[name] != ours[name] for name in ours)
    assert digest(make(tmp_path / "world", world=1)).keys() != ours.keys()


def test_two_processes_may_make_the_same_world(world, tmp_path):
    code = f"from reidkit.datasets import plaza; plaza.generate({str(tmp_path / 'both')!r}, workers=1, **{TINY!r})"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert digest(tmp_path / "both") == digest(world)
    assert [path.name for path in tmp_path.iterdir()] == ["both"]


# ---- whole or not at all


def stop_after(monkeypatch, count, error):
    """Let the `count`-th file fail."""
    write, written = plaza._write, []

    def failing(path, data):
        if len(written) == count:
            Path(f"{path}.tmp").write_bytes(data[:10])  # what a kill leaves behind
            raise error
        written.append(path)
        write(path, data)

    monkeypatch.setattr(plaza, "_write", failing)


def test_a_killed_generation_goes_on_where_it_stopped(world, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 12, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make(out)
    assert not out.exists()
    part = tmp_path / ".out.part"
    done = {path: path.stat().st_mtime_ns for path in part.rglob("*.jpg")}
    assert len(done) == 11  # and the arguments
    render, rendered = plaza.render, []

    def counting(world, pid, shots, **how):
        rendered.extend((pid, shot) for shot in shots)
        return render(world, pid, shots, **how)

    monkeypatch.setattr(plaza, "render", counting)
    monkeypatch.setattr(plaza.os, "replace", lambda a, b, real=plaza.os.replace: (kept(done, a), real(a, b))[1])
    make(out)
    assert digest(out) == digest(world)
    total = sum(len(job.files) for job in market_jobs(plaza.Plan(**TINY)))
    assert len(rendered) < total
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_kill_in_the_middle_costs_nothing_but_the_rest(world, tmp_path):
    code = f"from reidkit.datasets import plaza; plaza.generate({str(tmp_path / 'out')!r}, workers=1, **{TINY!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None and len(list(tmp_path.rglob("*.jpg"))) < 5:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert digest(make(tmp_path / "out")) == digest(world)


def kept(done, moved):
    """When the finished folder is moved into place, the files that were done are as they were."""
    if Path(moved).is_dir():
        assert all(path.stat().st_mtime_ns == when for path, when in done.items())


def test_a_full_disk_is_one_error_that_keeps_what_is_whole(world, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_after(patch, 9, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(DatasetError, match=r"the disk is full.*images are whole and stay in .*\.out\.part"):
            make(out)
    assert not out.exists()
    assert digest(make(out)) == digest(world)
    monkeypatch.setattr(plaza.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DatasetError, match=r"the disk is full \(the rest takes about"):
        make(tmp_path / "none")


def test_work_begun_for_other_arguments_is_not_mixed_in(world, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 9, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "out", gap=0.25)
    assert digest(make(tmp_path / "out")) == digest(world)


def test_a_finished_world_is_left_alone(world, monkeypatch):
    monkeypatch.setattr(plaza, "render", None)
    assert make(world) == world


def test_a_folder_of_something_else_is_refused(world, tmp_path):
    with pytest.raises(DatasetError, match=r"holds another world \(gap 1.0, not 0.5\)"):
        make(world, gap=0.5)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(DatasetError, match="is no Plaza world"):
        make(tmp_path / "thesis")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DatasetError, match="is no Plaza world"):
        make(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert make(tmp_path / "empty") == tmp_path / "empty"
    next((tmp_path / "empty" / "query").iterdir()).unlink()
    with pytest.raises(DatasetError, match="8 of 9 files in query"):
        make(tmp_path / "empty")


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot make"):
        make(tmp_path / "file" / "world")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gap": 1.5}, "gap must be a number from 0"),
        ({"gap": float("nan")}, "gap must be"),
        ({"gap": "1"}, "gap must be"),
        ({"cameras": 1}, "cameras must be a whole number from 2 to 9"),
        ({"cameras": 10}, "from 2 to 9"),
        ({"train_ids": 1}, "train_ids must be a whole number from 2"),
        ({"test_ids": 0}, "test_ids must be"),
        ({"world": -1}, "world must be"),
        ({"world": True}, "world must be"),
        ({"images": (3, 2)}, "images must be a pair"),
        ({"images": 3}, "images must be a pair"),
        ({"tracklets": (0, 1)}, "tracklets must be a pair"),
        ({"cameras_per_id": (2, 7)}, "cameras_per_id must be a pair, 1 <= low <= high <= 3"),
        ({"cameras_per_id": (1, 1)}, "nobody has a match"),
        ({"junk": -1}, "junk must be"),
        ({"distractors": 2.5}, "distractors must be"),
        ({"height": 65}, "height must be even"),
        ({"height": 8}, "height must be"),
        ({"layout": "duke"}, "layout must be"),
        ({"layout": "cuhk03", "cameras": 3}, "pairs of cameras"),
        ({"workers": 0}, "workers must be"),
    ],
)
def test_arguments_out_of_range_are_named(change, says, tmp_path):
    with pytest.raises(DatasetError, match=re.escape(says)):
        make(tmp_path / "out", **change)
    assert not list(tmp_path.iterdir())


def test_an_unknown_argument_is_named(tmp_path):
    with pytest.raises(TypeError, match="gaps"):
        make(tmp_path / "out", gaps=1)
    with pytest.raises(DatasetError, match="gaps"):
        load("plaza", tmp_path, gaps=1)


def test_the_note_of_a_world_says_how_it_was_made(world):
    made = json.loads((world / "plaza.json").read_text())
    assert made["arguments"]["train_ids"] == 2
    assert made["counts"]["query"] == len(list((world / "query").iterdir())) == 9


# ---- CUHK03's layout

PAIRS = {"layout": "cuhk03", "cameras": 4, "train_ids": 4, "test_ids": 4, "images": (2, 5), "height": 64}


@pytest.fixture(scope="module")
def cuhk(tmp_path_factory):
    return plaza.generate(tmp_path_factory.mktemp("plaza") / "cuhk03", **PAIRS, workers=1, progress=False)


def test_the_matlab_file_has_the_structure_of_the_real_one(cuhk):
    with h5py.File(cuhk / "cuhk03_release" / "cuhk-03.mat") as mat:
        assert mat["labeled"].shape == mat["detected"].shape == (1, 2)
        assert mat["testsets"].shape == (1, 20)
        for pair in mat["labeled"][0]:
            people = mat[pair][:].T  # as readers written after MATLAB's order have it
            assert people.shape == (4, 10)
            for person in people:
                cells = [mat[cell][:].T for cell in person]
                images = [cell for cell in cells if cell.ndim == 3]
                assert all(image.shape == (64, 32, 3) and image.dtype == np.uint8 for image in images)
                assert 2 <= sum(cell.ndim == 3 for cell in cells[:5]) <= 5
                assert 2 <= sum(cell.ndim == 3 for cell in cells[5:]) <= 5
        split = mat[mat["testsets"][0][0]][:].T
        assert split.shape == (4, 2)
        assert set(split[:, 0]) <= {1, 2}


@pytest.mark.parametrize("images", ["labeled", "detected"])
def test_our_reader_opens_it_under_both_protocols(cuhk, images):
    new = cuhk03.read(cuhk.parent, images=images, protocol="new")
    assert new.train.pid.nunique() == new.query.pid.nunique() == 4
    assert not set(new.train.pid) & set(new.query.pid)
    assert len(new.query) == 8  # one a person and view
    assert set(new.gallery.pid) == set(new.query.pid)
    classic = cuhk03.read(cuhk.parent, images=images, protocol="classic", split=3)
    assert classic.query.pid.nunique() == 4
    assert len(classic.train) + len(classic.query) == len(new.train) + len(new.query) + len(new.gallery)


def test_it_too_is_the_same_whenever_it_is_made_and_however_often_it_was_stopped(cuhk, tmp_path, monkeypatch):
    remove = plaza.plaza_cuhk03.shutil.rmtree

    def stop(folder):
        remove(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plaza.plaza_cuhk03.shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "out", **PAIRS)
    assert not (tmp_path / "out").exists()
    made = {name: code for name, code in digest(make(tmp_path / "out", **PAIRS)).items() if "images_" not in name}
    assert made == {name: code for name, code in digest(cuhk).items() if "images_" not in name}


def test_detected_boxes_jitter_and_labeled_ones_do_not(cuhk):
    jobs = list(plaza.plaza_cuhk03.jobs(plaza.Plan(**PAIRS)))
    crops = {file.split("/")[0]: shot.crop for job in jobs for shot, file in zip(job.shots, job.files, strict=True)}
    assert crops == {"images_labeled": "tight", "images_detected": "box"}
    assert {file.name for file in cuhk.iterdir()} >= {"cuhk03_new_protocol_config_labeled.mat", "plaza.json"}


# (world, pid, cam, gap): mean red, green and blue of each block of 32 x 32 pixels, 4 x 2 of them, row by row
PICTURES = {
    (0, 1, 0, 1.0): [
        *(150, 128, 129, 173, 149, 151, 98, 94, 99, 95, 93, 103),
        *(152, 126, 129, 133, 113, 116, 191, 168, 176, 172, 158, 166),
    ],
    (0, 2, 3, 1.0): [
        *(247, 244, 246, 240, 235, 239, 181, 181, 184, 116, 115, 125),
        *(172, 163, 164, 158, 153, 154, 226, 205, 204, 232, 215, 214),
    ],
    (5, 7, 2, 0.5): [
        *(115, 119, 99, 131, 139, 115, 124, 117, 93, 131, 134, 109),
        *(89, 98, 85, 108, 120, 103, 140, 159, 137, 134, 152, 131),
    ],
    (3, 40, 5, 0.0): [
        *(169, 168, 172, 198, 199, 204, 152, 148, 144, 132, 127, 105),
        *(165, 167, 179, 136, 141, 145, 215, 200, 187, 208, 193, 179),
    ],
}


@pytest.mark.parametrize("where", PICTURES)
def test_pictures_are_those_of_their_version(where):
    """Worlds on disk would mix with new pictures. Where these are meant to change, raise plaza_plan.VERSION too."""
    world, pid, cam, gap = where
    blocks = plaza.scene(world, pid, cam, gap=gap).reshape(4, 32, 2, 32, 3).mean((1, 3)).ravel()
    np.testing.assert_allclose(blocks, PICTURES[where], atol=1)
