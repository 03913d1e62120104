"""Notebooks as experiments: run one with checked parameters, and keep what came out whole or not at all.

    runs/<notebook>/<dataset>__<key-values>__<hash>/
        <notebook>.ipynb   executed
        results.json       what its last cell saved, and under "run" what this module knows
        log.txt            its printed output, cell by cell

The hash stands for everything a result depends on: notebook, profile, dataset fingerprint, parameters (seeds among
them), code, and the printed and stored numbers that stand beside it. A run
works in a hidden sibling folder and is renamed when finished; a failed one is kept beside it as `….failed`, without
results, until the next try. `prepare` does not execute: a sweep plans with it.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from reidkit.parameters import Parameter, ParameterError, check_parameters, read_parameters
from reidkit.results import save_results, strict, write_json
from reidkit.turns import turn

__all__ = [
    "Run",
    "RunError",
    "all_notebooks",
    "clear_away",
    "execute",
    "find_notebook",
    "fingerprint",
    "notebook_parameters",
    "prepare",
    "run_notebook",
    "save_results",
]

KERNEL = ".kernel"  # in the folder of a run that goes on: which process is its kernel
PROFILES = ("smoke", "demo", "long", "paper")
PACKAGE = Path(__file__).resolve().parent


class RunError(RuntimeError):
    """A notebook that did not finish: which cell, what error, where the half-run copy lies."""


@dataclass(frozen=True)
class Run:
    """One planned run: what to inject into which notebook, and the folder its results go to."""

    notebook: Path
    injected: dict  # parameters that differ from the notebook's own
    record: dict  # all that the key stands for
    folder: Path

    @property
    def finished(self) -> bool:
        return (self.folder / "results.json").is_file()

    @property
    def lacks(self) -> str:
        """Which rows of the finished run failed, in words; "" where all stand."""
        results = _saved(self.folder / "results.json")
        return failed_rows(results) if isinstance(results, dict) else ""

    @property
    def failed_folder(self) -> Path:
        return self.folder.with_name(self.folder.name + ".failed")


def run_notebook(
    notebook: str | Path,
    parameters: Mapping | None = None,
    *,
    out: str | Path = "runs",
    notebooks: str | Path | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Run a notebook (`"03"`, a name or a path) unless that very run is finished, and return its folder.

    Raises ParameterError or FileNotFoundError before anything starts, RunError when the notebook fails.
    """
    run = prepare(find_notebook(notebook, notebooks), parameters or {}, out)
    execute(run, force=force, progress=progress)
    return run.folder


def find_notebook(name: str | Path, folder: str | Path | None = None) -> Path:
    """The notebook of a number (`03`), a name (`03_dcaml`) or a path.

    Raises FileNotFoundError that lists what there is.
    """
    if Path(name).suffix == ".ipynb" and Path(name).is_file():
        return Path(name).resolve()
    folder = _folder(folder)
    present = sorted(folder.glob("*.ipynb"))
    stem = Path(name).stem if Path(name).suffix == ".ipynb" else str(name)
    found = [path for path in present if path.stem == stem] or [
        path for path in present if path.stem.split("_")[0] == stem
    ]
    if len(found) == 1:
        return found[0].resolve()
    if found:
        raise FileNotFoundError(f"{name!r} may be {' or '.join(path.stem for path in found)}: give the whole name")
    there = ", ".join(path.stem for path in present) or "none"
    raise FileNotFoundError(f"no notebook {str(name)!r} in {folder}; there: {there}")


def all_notebooks(folder: str | Path | None = None) -> list[Path]:
    """Every notebook of the folder, in the order of their names. Raises FileNotFoundError where there is none."""
    folder = _folder(folder)
    if not (present := sorted(folder.glob("*.ipynb"))):
        raise FileNotFoundError(f"no notebook in {folder}")
    return [path.resolve() for path in present]


def _folder(folder: str | Path | None) -> Path:
    """Where notebooks are: as told, else ./notebooks, else the repository's."""
    if folder is not None:
        return Path(folder)
    return Path("notebooks") if Path("notebooks").is_dir() else PACKAGE.parent / "notebooks"


def notebook_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares in its cell tagged `parameters`."""
    return _declared(notebook, _read(notebook))


def fingerprint(dataset: str | None, data_root: str | None) -> str | None:
    """What the data is. Plaza is made from parameters and code, which the key holds already: none is rendered here."""
    if dataset == "plaza":
        return "generated"
    if dataset is None or data_root is None:
        return None
    from reidkit.datasets import load

    return load(dataset, data_root).fingerprint


def prepare(
    notebook: Path,
    parameters: Mapping,
    out: str | Path = "runs",
    *,
    fingerprint: Callable[[str | None, str | None], str | None] = fingerprint,
) -> Run:
    """Check `parameters` against the notebook and work out where their run belongs. Executes nothing.

    A relative path (data_root, 01's oxford) counts from the working directory, the notebook's own default from the
    notebook's folder.
    Raises ParameterError; DatasetError where the dataset cannot be opened.
    """
    nb = _read(notebook)
    declared = _declared(notebook, nb)
    if "results_path" not in declared:
        raise ParameterError(f"{notebook.stem} has no parameter 'results_path', so its results could not be kept")
    if "results_path" in parameters:
        raise ParameterError("results_path is set by the run itself; choose the folder with --out")
    injected = check_parameters(parameters, declared, where=notebook.stem)
    values = {name: parameter.default for name, parameter in declared.items()} | injected
    if "profile" in values and values["profile"] not in PROFILES:
        raise ParameterError(f"profile {values['profile']!r} is none of {', '.join(PROFILES)}")
    dataset = values.get("dataset")
    if "gap" in parameters and dataset not in (None, "plaza"):
        raise ParameterError(
            f"gap is the dial of Plaza, {dataset!r} has none: leave it out "
            "(in a sweep, give it to plaza alone: {dataset: plaza, gap: 0.5})"
        )
    places = [name for name in ("data_root", "oxford") if name in values and (values[name] or name == "data_root")]
    for name in places:
        base = Path.cwd() if name in injected else notebook.parent
        values[name] = injected[name] = str((base / Path(values[name]).expanduser()).resolve())
    kept = {name: value for name, value in values.items() if name not in (*places, "results_path")}
    if dataset not in (None, "plaza"):
        kept.pop("gap", None)  # the dial of Plaza: of other data it says nothing
    own = Path(values["data_root"]).name if dataset == "folder" else ""  # one's own folders are told apart by name
    record = {
        "notebook": notebook.stem,
        "profile": values.get("profile"),
        "dataset": f"{dataset}: {own}" if own else dataset,
        "dataset_fingerprint": fingerprint(dataset, values.get("data_root")),
        **({"oxford_fingerprint": fingerprint("oxford5k", values["oxford"])} if "oxford" in places else {}),
        "parameters": kept,
        "notebook_hash": _hash([[cell.cell_type, cell.metadata.get("tags", []), cell.source] for cell in nb.cells]),
        "code_hash": code_hash(),
        "ledger_hash": ledger_hash(),
    }
    named = {
        name: value
        for name, value in kept.items()
        if name == "profile" or (name != "dataset" and value != declared[name].default)
    }
    words = [f"{name}={_word(value)}" for name, value in named.items()]
    words += [f"data_root={_word(own)}"] if own else []
    readable = "__".join([_word(dataset or "run"), *words])[:120]
    folder = Path(out).resolve() / notebook.stem / f"{readable}__{_hash(record)[:8]}"
    return Run(notebook, injected, record, folder)


def execute(
    run: Run, *, force: bool = False, progress: bool = True, shown: Callable[[str], None] = lambda heading: None
) -> bool:
    """Execute a prepared run; False when it was finished already. Raises RunError when the notebook fails.

    `shown` is called with the heading above every cell that has shown a picture.

    Two processes that want the same run take turns, and the second finds it finished. An interrupt (Ctrl-C) ends the
    kernel and leaves nothing behind.
    """
    if run.finished and not force:
        return False
    before = run.folder.stat().st_mtime_ns if run.finished else None
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    with turn(run.folder, told=progress):
        if run.finished and run.folder.stat().st_mtime_ns != before:
            return False  # somebody else finished it while this process waited
        _clear_away(run.folder)
        part = Path(tempfile.mkdtemp(prefix=f".{run.folder.name}.", suffix=".part", dir=run.folder.parent))
        part.chmod(0o755)
        try:
            _execute_in(part, run, progress, shown)
            _publish(part, run.folder)
            shutil.rmtree(run.failed_folder, ignore_errors=True)
        except RunError:
            (part / "results.json").unlink(missing_ok=True)
            _publish(part, run.failed_folder)
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return True


def clear_away(run: Run) -> None:
    """Remove what a process left behind that was killed in mid-run, its kernel too; nothing where the run goes on."""
    if not run.folder.parent.is_dir():
        return
    with contextlib.suppress(Timeout), turn(run.folder, wait=False):
        _clear_away(run.folder)


def _clear_away(folder: Path) -> None:
    from reidkit.kernel import end_kernel

    for stale in folder.parent.glob(f".{folder.name}.*.part"):
        end_kernel(stale / KERNEL)  # it looks for its parent itself, but only once a second
        shutil.rmtree(stale, ignore_errors=True)


def _execute_in(part: Path, run: Run, progress: bool, shown: Callable[[str], None]) -> None:
    # papermill pulls in all of Jupyter: a second that `--help`, and a notebook's save_results, need not wait.
    import papermill
    from nbclient.exceptions import DeadKernelError

    from reidkit.kernel import KernelWatch, Progress

    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # whatever goes wrong is raised, and told once
    results_path, executed = part / "results.json", part / run.notebook.name
    started = time.monotonic()
    error = None
    with (
        open(part / "log.txt", "a", encoding="utf-8") as log,
        Progress(run.notebook.stem, _read(run.notebook), log, show=progress, shown=shown) as bar,
        KernelWatch(log, part / KERNEL, tick=bar.tick) as kernel,
    ):
        log.write(f"{run.notebook.stem}  {json.dumps(run.record['parameters'])}\n")
        log.flush()
        try:
            papermill.execute_notebook(
                run.notebook,
                executed,
                parameters=run.injected | {"results_path": str(results_path)},
                kernel_name="python3",
                language="python",
                progress_bar=False,
                start_timeout=300,  # kernels start slowly where many start at once
                kernel_manager_class=kernel.manager_class,
                resources={"metadata": {"path": str(run.notebook.parent)}},
                stdout_file=bar,
                stderr_file=bar,
                on_cell_execute=bar.cell_started,
                on_cell_executed=bar.cell_finished,
            )
        except papermill.PapermillExecutionError as failure:
            what = f"{failure.ename}: {failure.evalue}" if failure.evalue else failure.ename
            error = f"failed in {bar.place}: {what}\n\n{_failing_lines(failure)}"
        except DeadKernelError:
            error = f"failed in {bar.place}: the kernel died (out of memory, or killed)"
        except RuntimeError as failure:  # nbclient's word for a kernel that does not come up
            error = f"failed in {bar.place}: {failure}"
        results = None if error else _saved(results_path)
        if isinstance(results, str):
            error = results
        if error:
            log.write(f"\n{error}\n")
    if executed.is_file():
        _join_streams(executed)
    # The executed copy and the log speak of the folder where they will lie, not of the one where they were made.
    for path in (executed, part / "log.txt"):
        if path.is_file():
            text = path.read_text(encoding="utf-8").replace(str(part), str(run.failed_folder if error else run.folder))
            path.write_text(text, encoding="utf-8")
    if error:
        raise RunError(f"{run.notebook.stem} {error.rstrip()}\n\nthe half-run copy and its log: {run.failed_folder}")
    results["sections"] = results.get("sections") or _sections(executed)
    measured = {"seconds": round(time.monotonic() - started, 2), "peak_memory_mib": kernel.peak_memory_mib}
    results["run"] = strict(run.record | measured | git_state())
    write_json(results_path, results)


def _join_streams(executed: Path) -> None:
    """One piece for what a cell printed in many, table by table and picture by picture in the order of its own (the
    executor's option of that kind joins across what was shown in between)."""
    import nbformat
    from nbconvert.preprocessors import coalescestreams

    nb = _read(executed)
    coalescestreams.CoalesceStreamsPreprocessor(enabled=True).preprocess(nb, {})
    nbformat.write(nb, executed)


def failed_rows(results: Mapping) -> str:
    """What came to nothing in a finished run whose other rows stand: "1 of 4 rows failed: b, 1: ValueError: …"; ""."""
    rows = results.get("rows")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    failed = [f"{row.get('variant')}, {row.get('seed')}: {row['error']}" for row in rows if row.get("error")]
    return f"{len(failed)} of {len(rows)} rows failed: {'; '.join(failed)}" if failed else ""


def _saved(path: Path) -> dict | str:
    """What a notebook saved, or what is wrong with it."""
    hint = "its last cell should call save_results(results_path, rows)"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"saved no results: {hint}"
    except (OSError, ValueError) as error:
        return f"saved results that cannot be read ({error}): {hint}"
    return results if isinstance(results, dict) else f"saved a {type(results).__name__}, not results: {hint}"


def _failing_lines(failure) -> str:
    """The traceback's part that lies in the failing cell, without colours: what a reader needs to find the line."""
    frames = [re.sub(r"\x1b\[[0-9;]*m", "", frame) for frame in failure.traceback]
    inside = [frame for frame in frames if frame.lstrip().startswith("Cell In")]
    return (inside[-1] if inside else failure.source).rstrip()


def _sections(executed: Path) -> dict[str, float]:
    """Seconds by second-level heading, from the durations that papermill notes in every cell."""
    seconds, heading = {}, "start"
    for cell in _read(executed).cells:
        if cell.cell_type == "markdown" and (match := re.search(r"^##\s+(.+)$", cell.source, re.MULTILINE)):
            heading = match[1].strip()
        elif cell.cell_type == "code":
            took = cell.metadata.get("papermill", {}).get("duration") or 0
            seconds[heading] = seconds.get(heading, 0) + took
    return {heading: round(took, 2) for heading, took in seconds.items()}


def _publish(part: Path, folder: Path) -> None:
    """Rename `part` to `folder`, in place of what was there."""
    if folder.exists():
        folder.rename(part.with_name(part.name.removesuffix(".part") + ".old.part"))
    part.rename(folder)
    shutil.rmtree(part.with_name(part.name.removesuffix(".part") + ".old.part"), ignore_errors=True)


def _read(notebook: Path):
    import nbformat

    try:
        return nbformat.read(notebook, as_version=4)
    except (ValueError, AttributeError, KeyError):  # nbformat's NotJSONError is a ValueError
        raise ParameterError(f"{notebook} is not a notebook that can be read") from None


def _declared(notebook: Path, nb) -> dict[str, Parameter]:
    tagged = [cell for cell in nb.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook.name} has {len(tagged)} cells tagged 'parameters'; it needs exactly one")
    return read_parameters(tagged[0].source, where=f"{notebook.stem}, parameters cell")


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def code_hash() -> str:
    """16 hex digits of the kit's own files: a commit that leaves them alone leaves finished runs finished."""
    return _hash([[str(path.relative_to(PACKAGE)), path.read_text()] for path in sorted(PACKAGE.rglob("*.py"))])


def ledger_hash() -> str | None:
    """16 hex digits of what notebooks print beside their own numbers: the repository's data/claims.csv, reported.csv
    and long/*.csv; None where none is there. Not data/demo/, which is made of finished runs."""
    data = PACKAGE.parent / "data"
    files = [data / "claims.csv", data / "reported.csv", *sorted((data / "long").glob("*.csv"))]
    known = [[path.relative_to(data).as_posix(), path.read_bytes().hex()] for path in files if path.is_file()]
    return _hash(known) if known else None


def git_state() -> dict:
    """The kit's commit, and whether its files differ from it; None outside git."""

    def git(*words):
        done = subprocess.run(["git", "-C", PACKAGE, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _word(value: object) -> str:
    """A value as a piece of a folder's name."""
    if isinstance(value, list | tuple):
        return ",".join(_word(item) for item in value)
    return re.sub(r"[^\w.+,-]+", "-", f"{value:g}" if isinstance(value, float) else str(value))
