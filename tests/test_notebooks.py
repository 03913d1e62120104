"""Every notebook in the smoke profile, as a learner would run it: nbval on a copy, strict on deterministic cells."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

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
def test_runs_in_smoke(path, tmp_path, tmp_path_factory):
    shared = tmp_path_factory.getbasetemp()  # worlds and stand-in, rendered and trained once for all notebooks
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    notebook = load_notebook_node(str(path))
    values = {"profile": "smoke", "data_root": str(shared / "data"), "results_path": str(tmp_path / "results.json")}
    copy = tmp_path / path.name
    nbformat.write(parameterize_notebook(notebook, values), copy)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {
        "REIDKIT_CACHE": str(shared / "cache"),
        "REIDKIT_WORKERS": "0",  # rows one after another: as many notebooks run at once as there are cores
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", "-p", "no:xdist"]
    command += ["-p", "no:cacheprovider", "--nbval-cell-timeout", "300", "-c", "pytest.ini", copy.name]
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert (tmp_path / "results.json").is_file()
