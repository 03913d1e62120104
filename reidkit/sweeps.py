"""A grid of runs: read from a YAML file, planned, estimated, and executed on Dask, one task a core or a GPU.

    notebooks:                    # each by number, name or path; with parameters of its own where it needs them
      - 02
      - notebook: 03
        parameters: {margin: [0.1, 0.3]}
    datasets:                     # a name, or a data set with its parameters; left out, the notebook's own
      - plaza
      - {dataset: plaza, gap: 0.5}
      - {dataset: folder, data_root: my cameras}
    profiles: [demo]              # left out, the notebook's own
    parameters: {}                # for every notebook; each list is one axis of the grid, a value that is a list
                                  # itself stands in a list: gaps: [[0, 0.5, 1]]
    seeds: [0, 1, 2]              # a run each; [[0, 1, 2]] is one run of three seeds; left out, the profile's own

Paths count from the working directory. The grid is the product of its axes; runs that come out the same are one run.
"""

import asyncio
import difflib
import functools
import itertools
import json
import math
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from joblib import cpu_count  # what this process may use, a container's share too
from tqdm import tqdm

from reidkit import runs
from reidkit.outcomes import FAILED, RAN, SKIPPED, Outcome, attempt, duration, label
from reidkit.parameters import ParameterError, read_yaml_file
from reidkit.runs import Run, find_notebook, prepare

KEYS = ("notebooks", "datasets", "profiles", "parameters", "seeds")
BUDGETS = {"smoke": 60, "demo": 7 * 60, "long": 2 * 3600}  # seconds of one core: twice the profile's on two
LOOPBACK = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": False}
ANSWER = 5  # seconds that a scheduler may take to answer


def plan(path: str | Path, *, out: str | Path = "runs", notebooks: str | Path | None = None) -> list[Run]:
    """The runs of a sweep file, in its order. Executes nothing.

    Raises ParameterError that names the file and the nearest word for a misspelt one, FileNotFoundError for a notebook
    that is not there, DatasetError for a data set that cannot be opened.
    """
    fingerprint = functools.cache(runs.fingerprint)  # a large folder is listed once, not for every run
    planned = {}
    for name, parameters in grid(read_yaml_file(path), where=str(path)):
        run = prepare(find_notebook(name, notebooks), parameters, out, fingerprint=fingerprint)
        planned.setdefault(run.folder, run)
    return list(planned.values())


def grid(sweep: Mapping, *, where: str = "the sweep") -> Iterator[tuple[str, dict]]:
    """Every (notebook, parameters) of a sweep file's content. Raises ParameterError."""
    _known(sweep, KEYS, where)
    if not (notebooks := _list(sweep, "notebooks", where)):
        raise ParameterError(f"{where} names no notebooks; write, say, `notebooks: [02, 03]`")
    datasets = [_dataset(entry, f"{where}, datasets") for entry in _list(sweep, "datasets", where)] or [{}]
    profiles = [{"profile": profile} for profile in _list(sweep, "profiles", where)] or [{}]
    seeds = _list(sweep, "seeds", where)
    seeds = [{"seeds": seed if isinstance(seed, list) else [seed]} for seed in seeds] or [{}]
    common = _axes(sweep.get("parameters"), f"{where}, parameters")
    for entry in notebooks:
        name, own = _notebook(entry, f"{where}, notebooks")
        for parts in itertools.product(datasets, profiles, *common, *own, seeds):
            parameters = {}
            for part in parts:
                for key in part.keys() & parameters.keys():
                    raise ParameterError(f"{where}: {key!r} of notebook {name} is given twice")
                parameters |= part
            yield name, parameters


def _known(given: object, keys: Sequence[str], where: str) -> None:
    if not isinstance(given, Mapping):
        raise ParameterError(f"{where}: expected `name: value` lines, got {given!r}")
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {near[0]!r}? It" if near else "it"
            raise ParameterError(f"{where} has no key {key!r}; {hint} knows: {', '.join(keys)}")


def _list(sweep: Mapping, key: str, where: str) -> list:
    """The values of one axis; none where it is left out."""
    value = sweep.get(key)
    if value == []:
        raise ParameterError(f"{where}: {key!r} is an empty list, so no run is left; give it a value or leave it out")
    return value if isinstance(value, list) else [] if value is None else [value]


def _axes(parameters: object, where: str) -> list[list[dict]]:
    """Each parameter as the list of its values."""
    if parameters is None:
        return []
    if not isinstance(parameters, Mapping):
        raise ParameterError(f"{where}: expected `name: [value, …]` lines, got {parameters!r}")
    for name, value in parameters.items():
        if value is None:
            raise ParameterError(f"{where}: {name!r} has no value; give it one or leave it out ([null] is None itself)")
    return [[{name: value} for value in _list(parameters, name, where)] for name in parameters]


def _dataset(entry: object, where: str) -> dict:
    if isinstance(entry, str):
        return {"dataset": entry}
    if not isinstance(entry, Mapping) or "dataset" not in entry:
        raise ParameterError(f"{where}: {entry!r} is neither a name nor {{dataset: NAME, …}}")
    return dict(entry)


def _notebook(entry: object, where: str) -> tuple[str, list]:
    if not isinstance(entry, Mapping):
        return str(entry), []
    _known(entry, ("notebook", "parameters"), where)
    if "notebook" not in entry:
        raise ParameterError(f"{where}: {dict(entry)!r} says no `notebook`")
    return str(entry["notebook"]), _axes(entry.get("parameters"), f"{where}, {entry['notebook']}")


# the plan, told -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Seconds that a run may take, and what says so. None: nothing does."""

    seconds: float | None
    source: str


def estimate(run: Run, out: str | Path) -> Estimate:
    """From finished runs of the same notebook and profile under `out` (those with as many seeds, if there are any),
    else from the profile's budget."""
    alike, with_as_many_seeds = [], []
    for path in sorted((Path(out) / run.notebook.stem).glob("*/results.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))["run"]
            if record["profile"] == run.record["profile"]:
                if not math.isfinite(seconds := float(record["seconds"])):
                    continue
                alike.append(seconds)
                if _seeds(record) == _seeds(run.record):
                    with_as_many_seeds.append(seconds)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not a run of ours: it says nothing
    if taken := with_as_many_seeds or alike:
        times = f"{len(taken)} earlier run" + "s" * (len(taken) > 1)
        return Estimate(statistics.median(taken), times + ("" if with_as_many_seeds else ", with other seeds"))
    budget = BUDGETS.get(run.record["profile"])
    return Estimate(budget, "the profile's budget" if budget else "nothing to go by")


def _seeds(record: Mapping) -> int:
    return len(record["parameters"].get("seeds", []))


def describe(planned: Sequence[Run], out: str | Path, slots: int) -> str:
    """The plan as a table, and the time it may take on so many slots."""
    lines, total, longest, unknown = [("run", "state", "estimate", "from")], 0.0, 0.0, 0
    for run in planned:
        if run.finished:
            lines.append((label(run), "finished", "", ""))
            continue
        guess = estimate(run, out)
        state = "failed before" if run.failed_folder.is_dir() else "to run"
        lines.append((label(run), state, "?" if guess.seconds is None else duration(guess.seconds), guess.source))
        total, longest = total + (guess.seconds or 0), max(longest, guess.seconds or 0)
        unknown += guess.seconds is None
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    told = "\n".join("  ".join([*map(str.ljust, line[:3], widths), line[3]]).rstrip() for line in lines)
    waiting = sum(not run.finished for run in planned)
    if not waiting:
        return f"{told}\n\n{_runs(planned)}, all finished"
    time = f"about {duration(max(total / slots, longest))}, {min(slots, waiting)} at a time"
    more = f"; {unknown} of unknown length not counted" if unknown else ""
    return f"{told}\n\n{_runs(planned)}, {waiting} to do: {time}{more}"


def _runs(planned: Sequence[Run]) -> str:
    return f"{len(planned)} run" + "s" * (len(planned) != 1)


# execution ------------------------------------------------------------------------------------------------------------


def sweep(planned: Sequence[Run], *, scheduler: str | None = None, progress: bool = True) -> list[Outcome]:
    """Execute the runs that are not finished, on a cluster of this machine or on the one whose scheduler is given.

    Returns an outcome a run, in the order of the plan. A run whose worker dies is given to another; one that fails does
    not stop the others. Raises ConnectionError where no scheduler answers.
    """
    outcomes = {run.folder: Outcome(run, SKIPPED) for run in planned if run.finished}
    waiting = [run for run in planned if run.folder not in outcomes]
    if waiting:
        try:
            with client(scheduler, len(waiting)) as cluster:
                for outcome in _submit(cluster, waiting, progress):
                    outcomes[outcome.run.folder] = outcome
        finally:  # of workers that were killed, or of a sweep that was interrupted
            for run in waiting:
                runs.clear_away(run)
    return [outcomes[run.folder] for run in planned]


def _submit(cluster, waiting: Sequence[Run], progress: bool) -> Iterator[Outcome]:
    from distributed import as_completed

    resources = {"GPU": 1} if _has_gpus(cluster) else None
    futures = {cluster.submit(work, run, pure=False, resources=resources): run for run in waiting}
    states = []
    with tqdm(total=len(futures), desc="sweep", unit="run", leave=False, disable=None if progress else True) as bar:
        for future in as_completed(futures, loop=cluster.loop):
            run, error = futures[future], future.exception()
            outcome = future.result() if error is None else Outcome(run, FAILED, error=_killed(error))
            states.append(outcome.state)
            if progress:
                took = f" in {duration(outcome.seconds)}" if outcome.state != SKIPPED else ""
                bar.write(f"[{len(states)}/{len(futures)}] {label(run)}: {outcome.state}{took}", file=sys.stderr)
            bar.set_postfix_str(", ".join(f"{states.count(s)} {s}" for s in (RAN, FAILED) if s in states))
            bar.update()
            yield outcome


def work(run: Run) -> Outcome:
    """What a worker does: one run, on one core."""
    os.environ["REIDKIT_WORKERS"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if runs.code_hash() != run.record["code_hash"]:
        return Outcome(run, FAILED, error="not run: the worker has another version of reidkit than the sweep")
    if not run.notebook.is_file():
        return Outcome(run, FAILED, error=f"not run: the worker does not see {run.notebook}; is the folder shared?")
    return attempt(run, progress=False)


def _killed(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return f"its worker was killed {error.allowed_failures + 1} times over; out of memory?"
    return f"{type(error).__name__}: {error}"


@contextmanager
def client(scheduler: str | None, tasks: int):
    """A Dask client: of the cluster whose scheduler is given, else of one on this machine, on loopback."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")  # what matters is in the outcomes
    from distributed import Client, Scheduler, SpecCluster

    if scheduler is not None:
        try:
            asyncio.run(_probe(scheduler))  # a Client that finds nobody keeps trying in a thread of its own
            connected = Client(scheduler, timeout=f"{ANSWER}s", set_as_default=False)
        except (OSError, TypeError, ValueError) as error:  # nobody there; an address that is none
            raise ConnectionError(
                f"no Dask scheduler answers at {scheduler!r} ({_first_line(error)}); start one with `dask scheduler`, "
                "give the address that it prints, or leave --scheduler out"
            ) from None
        with connected:
            if not connected.nthreads():
                print(f"{scheduler} has no worker yet; waiting for one", file=sys.stderr)
            yield connected
        return
    cards = _cards()
    number = min(tasks, len(cards) or cpu_count())
    here = {"cls": Scheduler, "options": LOOPBACK}
    with (
        SpecCluster(workers=_workers(number, cards), scheduler=here, name="reidkit") as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


async def _probe(address: str) -> None:
    from distributed import Security
    from distributed.comm import connect

    comm = await connect(address, timeout=ANSWER, **Security().get_connection_args("client"))
    await comm.close()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _workers(number: int, cards: Sequence[str]) -> dict:
    """A process a core, or a process a GPU that sees no other; each minded by a nanny that replaces it when it dies."""
    from distributed import Nanny

    options = LOOPBACK | {"nthreads": 1, "memory_limit": 0}  # a run's memory is its kernel's, which no worker counts
    own = [{"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": card}} for card in cards] or [{}] * number
    return {index: {"cls": Nanny, "options": options | own[index]} for index in range(number)}


def slots(scheduler: str | None = None) -> int:
    """How many runs go at once."""
    if scheduler is None:
        return len(_cards()) or cpu_count()
    with client(scheduler, 0) as cluster:
        threads = cluster.nthreads().values()  # of each worker
        return max(1, len(threads) if _has_gpus(cluster) else sum(threads))


def _cards() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    number = torch.cuda.device_count()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",")[:number] if chosen else [str(index) for index in range(number)]


def _has_gpus(cluster) -> bool:
    workers = cluster.scheduler_info()["workers"].values()
    return any(worker["resources"].get("GPU") for worker in workers)
