"""Every notebook agrees with its twin of plain text, and tools/pair.py keeps outputs, ids and edits."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"

sys.path.insert(0, str(ROOT / "tools"))
import pair  # noqa: E402

TWIN = """\
# %% [markdown]
# # A title

# %% tags=["parameters"]
gap: float = 1.0  # a comment

# %%
print(gap)

# %%
print(gap)

# %% jupyter={"source_hidden": true} tags=["solution"]
answer = 6 * 7
"""


def run_tool(folder, *words):
    return pair.main(["--folder", str(folder), *words])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "01_a.py").write_text(TWIN)
    assert run_tool(tmp_path) == 0
    return tmp_path


def edit(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def with_outputs(text):
    nb = nbformat.reads(text, as_version=4)
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"output {count}\n")]
    return nbformat.writes(nb) + "\n"


def test_every_pair_of_the_project_agrees():
    assert [line for path in pair.pairs(NOTEBOOKS) if (line := pair.difference(path))] == []


def test_no_notebook_names_a_folder_of_the_machine():
    own = re.escape(str(ROOT))
    for path in NOTEBOOKS.glob("*.ipynb"):
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
            found = re.search(rf"{own}|/home/\w+|/root/|/Users/\w+|/tmp/", str(cell.get("outputs", "")))
            assert found is None, f"{path.name}, cell {number} shows {found[0]}"


def test_the_same_twin_gives_the_same_bytes(folder):
    made = (folder / "01_a.ipynb").read_text()
    assert made == pair.notebook_of(TWIN)
    nb = nbformat.reads(made, as_version=4)
    assert [cell.metadata.get("tags") for cell in nb.cells] == [None, ["parameters"], None, None, ["solution"]]
    assert nb.cells[4].metadata["jupyter"] == {"source_hidden": True}
    assert len({cell.id for cell in nb.cells}) == 5  # the repeated cell too
    assert pair.twin_of(made) == TWIN
    assert run_tool(folder, "--check") == 0


def test_an_edited_twin_is_found_and_mended_and_other_outputs_stay(folder, capsys):
    notebook = folder / "01_a.ipynb"
    notebook.write_text(with_outputs(notebook.read_text()))
    ids = [cell.id for cell in nbformat.read(notebook, as_version=4).cells]
    edit(folder / "scripts" / "01_a.py", "6 * 7", "6*8")
    assert run_tool(folder, "--check") == 1
    assert "01_a: notebook and twin differ; run: python tools/pair.py 01_a" in capsys.readouterr().out
    os.utime(folder / "scripts" / "01_a.py", (4e9, 4e9))
    assert run_tool(folder) == 0
    cells = nbformat.read(notebook, as_version=4).cells
    assert [len(cell.outputs) for cell in cells[1:]] == [1, 1, 1, 0]
    assert cells[3].outputs[0].text == "output 3\n"
    assert [cell.id for cell in cells[:4]] == ids[:4]
    assert cells[4].id != ids[4]
    assert cells[4].source == "answer = 6 * 8"  # formatted, in both
    assert "6 * 8" in (folder / "scripts" / "01_a.py").read_text()
    assert run_tool(folder, "--check") == 0


def test_text_edited_in_the_notebook_is_not_lost(folder, capsys):
    notebook, twin = folder / "01_a.ipynb", folder / "scripts" / "01_a.py"
    edit(notebook, "6 * 7", "7 * 6")
    os.utime(notebook, (4e9, 4e9))
    assert run_tool(folder) == 1
    assert "--from-notebook 01_a" in capsys.readouterr().err
    assert twin.read_text() == TWIN
    assert run_tool(folder, "--from-notebook", "01") == 0
    assert "7 * 6" in twin.read_text()
    edit(notebook, "7 * 6", "8 * 6")
    os.utime(notebook, (4e9, 4e9))
    assert run_tool(folder, "--from-twin") == 0
    assert "7 * 6" in notebook.read_text()


def test_a_notebook_without_twin_is_told(folder, capsys):
    (folder / "scripts" / "01_a.py").unlink()
    capsys.readouterr()
    assert run_tool(folder, "--check") == 1
    assert capsys.readouterr().out == "01_a: no twin; run: python tools/pair.py --from-notebook 01_a\n"
    with pytest.raises(SystemExit, match="no notebook 02; there: 01_a"):
        run_tool(folder, "02")


def test_litter_of_an_editor_is_a_difference(folder):
    nb = nbformat.read(folder / "01_a.ipynb", as_version=4)
    nb.cells[0].id = "0badc0de"
    nb.cells[1].metadata["collapsed"] = False
    nbformat.write(nb, folder / "01_a.ipynb")
    assert run_tool(folder, "--check") == 1
    assert run_tool(folder) == 0
    assert (folder / "01_a.ipynb").read_text() == pair.notebook_of(TWIN)


def test_outputs_of_an_executed_copy_come_home():
    source = pair.notebook_of(TWIN)
    nb = nbformat.reads(source, as_version=4)
    nb.cells.insert(2, nbformat.v4.new_code_cell("gap = 0.5", metadata={"tags": ["injected-parameters"]}))
    nb.metadata["papermill"] = {"duration": 1.0}
    copy = nbformat.reads(with_outputs(nbformat.writes(nb)), as_version=4)
    copy.cells[5].outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="50%\r"),
        nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
        nbformat.v4.new_output("execute_result", {"text/plain": "42"}, execution_count=5),
    ]
    kept = pair.keep_outputs(nbformat.writes(copy), source)
    cells = nbformat.reads(kept, as_version=4).cells
    assert [cell.execution_count for cell in cells[1:]] == [1, 2, 3, 4]
    assert [cell.outputs[0].get("text") for cell in cells[1:4]] == ["output 1\n", "output 3\n", "output 4\n"]
    assert [(output.data, output.execution_count) for output in cells[4].outputs] == [({"text/plain": "42"}, 4)]
    assert "papermill" not in kept
    assert "injected" not in kept
    assert pair.notebook_of(TWIN, kept) == kept  # a kept notebook is a pair in line
