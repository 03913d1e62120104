"""Every notebook in the smoke profile, as a learner would run it: nbval on a copy, strict on deterministic cells."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.inspection import inspect_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from reidkit.datasets import load, plaza

NOTEBOOKS = sorted(Path(__file__).parents[1].glob("notebooks/[0-9][0-9]_*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def text_of(cell) -> str:
    texts = [output.get("text") or output.get("data", {}).get("text/plain") for output in cell.outputs]
    return "".join(text or "" for text in texts)


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_cells_compared_have_an_output_to_compare(path):
    compared = [cell for cell in nbformat.read(path, 4).cells if "nbval-check-output" in tags(cell)]
    assert compared, "no cell is compared: tag those whose output is deterministic nbval-check-output"
    empty = [cell.source.splitlines()[0] for cell in compared if not text_of(cell).strip()]
    assert not empty, f"run `make notebooks`: no output to compare in {empty}"


@each_notebook
def test_has_the_course_s_parts(path):
    cells = nbformat.read(path, 4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert sum(cell.source.startswith("# ") for cell in cells if cell.cell_type == "markdown") == 1
    assert "In this notebook we aim at" in text
    assert "In this notebook we learned" in text
    kinds = [tag for cell in cells for tag in tags(cell) if tag in ("exercise", "solution", "check")]
    assert len(kinds) >= 12, "at least four exercises, each with its solution and its check"
    assert kinds == ["exercise", "solution", "check"] * (len(kinds) // 3)
    parameters = [cell for cell in cells if "parameters" in tags(cell)]
    assert len(parameters) == 1
    names = [line.split(":")[0] for line in parameters[0].source.splitlines()]
    assert names[:6] == ["profile", "dataset", "data_root", "gap", "seeds", "results_path"]


@each_notebook
def test_papermill_reads_every_parameter_with_its_help(path):
    (cell,) = (cell for cell in nbformat.read(path, 4).cells if "parameters" in tags(cell))
    found = inspect_notebook(str(path))
    assert list(found) == [line.split(":")[0] for line in cell.source.splitlines()]
    assert all(parameter["help"] for parameter in found.values())


@pytest.fixture
def smoke(tmp_path, tmp_path_factory):
    """Runs a notebook with nbval, in a copy and without a warm cache of one's own: the rows of its results."""
    shared = tmp_path_factory.getbasetemp()  # worlds and stand-in, rendered and trained once for all notebooks
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    environment = os.environ | {
        "REIDKIT_CACHE": str(shared / "cache"),
        "REIDKIT_WORKERS": "0",  # rows one after another: as many notebooks run at once as there are cores
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYTEST_XDIST_WORKER", None)

    def run(path, **values):
        results = tmp_path / "results.json"
        values = {"profile": "smoke", "data_root": str(shared / "data"), "results_path": str(results)} | values
        copy = tmp_path / path.name
        nbformat.write(parameterize_notebook(load_notebook_node(str(path)), values), copy)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "-p", "no:xdist"]
        command += ["-p", "no:cacheprovider", "--nbval-cell-timeout", "300", "-c", "pytest.ini", copy.name]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        return json.loads(results.read_text())["rows"]

    return run


def assert_finite(rows):
    """No row failed, each has numbers, and those of a row that was trained are fractions (a NaN is saved as null)."""
    assert rows
    for row in rows:
        assert not row.get("error"), row
        assert any(isinstance(value, float) for name, value in row.items() if name not in ("gap", "seconds")), row
        fractions = {name: row.get(name) for name in ("mAP", "rank1", "mINP", "precision", "recall")}
        assert all(0 <= value <= 1 for value in fractions.values() if value is not None), row
        assert row.get("seconds") is None or fractions["mAP"] is not None, row


@each_notebook
def test_runs_in_smoke(path, smoke):
    assert_finite(smoke(path))


def folder_of_people(root, kind):
    """People in Market-1501's layout, as one brings them: without a dial, without a world."""
    plaza.generate(root, world=7, train_ids=12, test_ids=12, cameras=3)
    if kind != "whole":
        shutil.rmtree(root / "gt_bbox")
    train = load("folder", root).train
    if kind == "one image a camera":
        left_out = train[train.duplicated(["pid", "camid"])]
    elif kind == "each under one camera":
        left_out = train[train.camid != train.pid % 3]
    else:
        left_out = train.iloc[:0]
    for path in left_out.path:
        Path(path).unlink()
    return root


@pytest.mark.parametrize(
    ("number", "dataset", "kind"),
    [
        (0, "market1501", "whole"),
        (1, "folder", "one image a camera"),
        (1, "folder", "each under one camera"),
        (2, "folder", "whole"),
        (4, "folder", "one image a camera"),
    ],
)
def test_runs_on_a_folder_of_people(number, dataset, kind, smoke, tmp_path):
    root = folder_of_people(tmp_path / "people", kind)
    assert_finite(smoke(NOTEBOOKS[number], dataset=dataset, data_root=str(root)))
