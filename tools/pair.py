"""Keep notebooks/*.ipynb and their text twins notebooks/scripts/*.py in line.

The twin is the source: `make pairs` rebuilds each notebook from it, keeps the outputs of every cell whose text has not
changed, and formats both with ruff. Cell ids come from the cells' own text, so that two people get the same file.

    python tools/pair.py [NN …]                   twins -> notebooks
    python tools/pair.py --from-notebook [NN …]   notebooks -> twins, after editing in JupyterLab
    python tools/pair.py --check                  say which pairs differ, change nothing
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import jupytext
import nbformat

from reidkit.results import write_text

ROOT = Path(__file__).resolve().parents[1]
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = ("tags", "jupyter", "slideshow")  # as in jupytext.toml; the rest is litter of one run or one editor
FILTERS = {"notebook_metadata_filter": "-all", "cell_metadata_filter": ",".join((*CELL_METADATA, "-all"))}


def notebook_of(twin: str, notebook: str | None = None) -> str:
    """The .ipynb text of a twin, with the outputs that `notebook`, its .ipynb text so far, has for the same cells."""
    return _dump(jupytext.reads(twin, fmt="py:percent").cells, notebook)


def twin_of(notebook: str) -> str:
    nb = nbformat.reads(notebook, as_version=4)
    nb.metadata = nbformat.from_dict({"jupytext": FILTERS})
    return jupytext.writes(nb, fmt="py:percent")


def keep_outputs(executed: str, notebook: str) -> str:
    """The .ipynb text of `notebook` with the outputs of an executed copy.

    What belongs to that one run stays out: injected parameters, progress bars, warnings, the count of its cells.
    """
    nb = nbformat.reads(_dump(nbformat.reads(notebook, as_version=4).cells, executed), as_version=4)
    executed_cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.execution_count is not None]
    for count, cell in enumerate(executed_cells, 1):
        cell.execution_count = count
        cell.outputs = [output for output in cell.outputs if not _litter(output)]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return nbformat.writes(nb) + "\n"


def _litter(output) -> bool:
    return output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {})


def _dump(cells: list, outputs_from: str | None) -> str:
    executed = {}
    if outputs_from is not None:
        old = nbformat.reads(outputs_from, as_version=4).cells
        executed = dict(zip(_ids(old), old, strict=True))
    ids = _ids(cells)
    fresh = []
    for identity, cell in zip(ids, cells, strict=True):
        metadata = {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
        new = {"cell_type": cell.cell_type, "id": identity, "metadata": metadata, "source": cell.source}
        if cell.cell_type == "code":
            old = executed.get(identity, {})
            new |= {"execution_count": old.get("execution_count"), "outputs": old.get("outputs", [])}
        fresh.append(new)
    notebook = nbformat.from_dict({"cells": fresh, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _ids(cells: list) -> list[str]:
    """An id for each cell: of its kind and text, and for the second cell of the same text a counter."""
    seen, ids = {}, []
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        count = seen[digest] = seen.get(digest, 0) + 1
        ids.append(digest if count == 1 else f"{digest}-{count}")
    return ids


def formatted(notebook: str) -> str:
    """`notebook` with its code cells as ruff writes them; as it is where ruff is not installed."""
    ruff = shutil.which("ruff", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if ruff is None:
        return notebook
    command = [ruff, "format", "--quiet", "--stdin-filename", "notebook.ipynb", "-"]
    return subprocess.run(command, input=notebook, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def difference(path: Path) -> str | None:
    """What is wrong with a pair, and the command that mends it; None for a pair in line."""
    twin, name = _twin(path), path.stem
    if not twin.is_file():
        return f"{name}: no twin; run: python tools/pair.py --from-notebook {name}"
    if not path.is_file():
        return f"{name}: no notebook; run: python tools/pair.py {name}"
    notebook, text = path.read_text(encoding="utf-8"), twin.read_text(encoding="utf-8")
    if notebook_of(text, notebook) != notebook or twin_of(notebook) != text:
        return (
            f"{name}: notebook and twin differ; run: python tools/pair.py {name}"
            f"   (or, to keep what was edited in the notebook: python tools/pair.py --from-notebook {name})"
        )
    return None


def align(path: Path, *, from_notebook: bool) -> bool:
    """Bring one pair in line; True where a file changed."""
    twin = _twin(path)
    before = [file.read_text(encoding="utf-8") if file.is_file() else None for file in (path, twin)]
    cells = notebook_of(twin_of(before[0]) if from_notebook else before[1])
    notebook = notebook_of(twin_of(formatted(cells)), before[0])
    after = [notebook, twin_of(notebook)]
    for file, old, new in zip((path, twin), before, after, strict=True):
        if new != old:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, new)
    return after != before


def pairs(folder: Path, chosen: list[str] = ()) -> list[Path]:
    """The notebooks of `folder`, those that only a twin stands for too; `chosen` picks by number or name."""
    stems = {path.stem for path in [*folder.glob("*.ipynb"), *(folder / "scripts").glob("*.py")]}
    unknown = [name for name in chosen if not any(name in (stem, stem.split("_")[0]) for stem in stems)]
    if unknown:
        raise SystemExit(f"no notebook {', '.join(unknown)}; there: {', '.join(sorted(stems))}")
    picked = [stem for stem in sorted(stems) if not chosen or {stem, stem.split("_")[0]} & set(chosen)]
    return [folder / f"{stem}.ipynb" for stem in picked]


def _twin(path: Path) -> Path:
    return path.parent / "scripts" / f"{path.stem}.py"


def _newer_notebook(path: Path) -> bool:
    """Whether a pair differs because somebody edited the notebook: its text would be lost."""
    twin = _twin(path)
    if not (path.is_file() and twin.is_file()) or path.stat().st_mtime <= twin.stat().st_mtime:
        return False
    return twin_of(path.read_text(encoding="utf-8")) != twin.read_text(encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NN", help="numbers or names (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where a pair differs")
    parser.add_argument("--from-notebook", action="store_true", help="the notebook's text counts, not the twin's")
    parser.add_argument("--from-twin", action="store_true", help="the twin's text counts, though the notebook is newer")
    parser.add_argument("--folder", type=Path, default=ROOT / "notebooks", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.check:
        wrong = [line for path in pairs(args.folder, args.names) if (line := difference(path))]
        print("\n".join(wrong) or "every notebook agrees with its twin")
        return int(bool(wrong))
    status = 0
    for path in pairs(args.folder, args.names):
        if not args.from_notebook and not args.from_twin and _newer_notebook(path):
            print(
                f"{path.stem}: the notebook was edited after its twin. Keep the notebook's text: "
                f"python tools/pair.py --from-notebook {path.stem}   or the twin's: --from-twin {path.stem}",
                file=sys.stderr,
            )
            status = 1
        elif not (path if args.from_notebook else _twin(path)).is_file():
            print(f"{path.stem}: {difference(path)}", file=sys.stderr)
            status = 1
        elif align(path, from_notebook=args.from_notebook):
            print(f"{path.stem}: in line")
    return status


if __name__ == "__main__":
    sys.exit(main())
