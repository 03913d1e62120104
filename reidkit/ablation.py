"""The rows of a table: every variant with every seed, in processes with one thread, so that numbers repeat exactly."""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import cpu_count
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from threadpoolctl import threadpool_limits

from reidkit.progress import bar
from reidkit.randomness import callers_randomness_kept, seed_all

Variant = Callable[[int], Mapping[str, Any]]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TQDM_DISABLE"), "1")
IDLE = 45  # seconds that a worker waits for the next call: it takes a new one several to import what it needs


def ablate(
    variants: Mapping[str, Variant],
    seeds: Sequence[int] | Mapping[str, Sequence[int]],
    *,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run `variant(seed) -> {metric: value}` for every variant and seed.

    Parameters
    ----------
    variants
        Name -> callable; a lambda or a function of a notebook cell will do. It travels to the worker with all that it
        refers to; memory-mapped pixels travel by the name of their file.
    seeds
        One row a seed, or a mapping from each variant to its own. The global random streams are set from it before the
        row starts.
    workers
        Processes, each with one thread; default the environment's REIDKIT_WORKERS, else the CPU cores. They wait 45
        seconds for another call, and hold their memory so long. 0: one after another in this process, also with one
        thread; the default where there is a GPU.
    progress
        One bar for all rows (bars inside worker processes are off).

    Returns
    -------
    DataFrame: variant, seed, the metrics (float, or arrays in an object column), seconds, error; ordered by variant,
    then seed. A failed row holds the exception's type and message in `error` (missing elsewhere) and NaN for its
    metrics, and is named in a warning; its full traceback is `frame.attrs["tracebacks"]["variant, seed"]`. The others
    stand, also when the row's whole process dies. Ctrl-C stops the workers.
    """
    own = seeds if isinstance(seeds, Mapping) else dict.fromkeys(variants, seeds)
    if lacking := [name for name in variants if name not in own]:
        raise ValueError(f"no seeds for {', '.join(lacking)}: the mapping has {', '.join(own)}")
    if unknown := [name for name in own if name not in variants]:
        raise ValueError(f"seeds for {', '.join(unknown)}, which is no variant: there are {', '.join(variants)}")
    rows = [(name, seed) for name in variants for seed in own[name]]
    if not rows:
        raise ValueError("nothing to run: no variants, or no seeds")
    if len(set(rows)) < len(rows):
        raise ValueError(f"seeds repeat: {seeds}")
    if workers is None:
        workers = 0 if torch.cuda.is_available() else int(os.environ.get("REIDKIT_WORKERS") or cpu_count())
    results = {}
    with (
        bar(len(rows), "ablate", "row", show=progress) as shown,
        closing(_in_workers(variants, rows, workers) if workers else _in_this_process(variants, rows)) as finished,
    ):
        for row, result in finished:
            results[row] = result
            shown.update()
    failed = [f"{name}, {seed}: {results[name, seed].error}" for name, seed in rows if results[name, seed].error]
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(rows)} rows failed:\n  " + "\n  ".join(failed), RuntimeWarning, stacklevel=2
        )
    return _frame({row: results[row] for row in rows})


def summarise(frame: pd.DataFrame, metrics: str | Sequence[str]) -> pd.DataFrame:
    """Mean, sample standard deviation and number of seeds of each metric, a row a variant, in the table's order."""
    metrics = [metrics] if isinstance(metrics, str) else list(metrics)
    table = frame.groupby("variant", sort=False)[metrics].agg(["mean", "std", "count"])
    return table.rename(columns={"count": "n"}, level=1)


@dataclass
class _Result:
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = float("nan")
    error: str | None = None
    traceback: str | None = None

    @classmethod
    def of_error(cls, error: BaseException, seconds: float = float("nan")) -> _Result:
        if isinstance(error, TerminatedWorkerError):  # its message is a page on what may have happened
            text = "WorkerDied: the process of this row was killed; it may have run out of memory"
        else:
            text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return cls({}, seconds, text, "".join(traceback.format_exception(error)))


def _run(variant: Variant, seed: int) -> _Result:
    began = time.perf_counter()
    try:
        seed_all(seed)
        metrics = variant(seed)
        if not isinstance(metrics, Mapping):
            raise TypeError(f"a variant returns a dict of metrics, not {type(metrics).__name__}")
        if taken := {"variant", "seed", "seconds", "error"} & metrics.keys():
            raise ValueError(
                f"a metric cannot be named {', '.join(sorted(taken))}: the table has a column of that name"
            )
        return _Result(dict(metrics), time.perf_counter() - began)
    except Exception as error:
        return _Result.of_error(error, time.perf_counter() - began)


def _in_this_process(variants: Mapping[str, Variant], rows: Sequence[tuple]) -> Iterator[tuple[tuple, _Result]]:
    threads, shown = torch.get_num_threads(), os.environ.get("TQDM_DISABLE")
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    with threadpool_limits(1), callers_randomness_kept(device):
        torch.set_num_threads(1)
        os.environ["TQDM_DISABLE"] = "1"
        try:
            for name, seed in rows:
                yield (name, seed), _run(variants[name], seed)
        finally:
            torch.set_num_threads(threads)
            if shown is None:
                del os.environ["TQDM_DISABLE"]
            else:
                os.environ["TQDM_DISABLE"] = shown


def _in_workers(
    variants: Mapping[str, Variant], rows: Sequence[tuple], workers: int
) -> Iterator[tuple[tuple, _Result]]:
    """Each slot is an executor with one process and at most one row: who dies is known, and no other row is lost."""
    waiting = list(reversed(rows))
    slots: dict[ProcessPoolExecutor, float] = {}  # and when it last did something
    running: dict[Any, tuple] = {}  # future -> (row, executor)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                busy = {executor for _, executor in running.values()}
                executor = next((e for e in slots if e not in busy), None) or _executor()
                slots[executor] = time.monotonic()
                name, seed = waiting[-1]
                try:
                    future = executor.submit(_run, variants[name], seed)
                except TerminatedWorkerError:  # it died while it waited, in the moment in which `_executor` looked
                    del slots[executor]
                    executor.shutdown(kill_workers=True)
                    continue
                running[future] = waiting.pop(), executor
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                row, executor = running.pop(future)
                slots[executor] = time.monotonic()
                error = future.exception()
                if error is not None:
                    del slots[executor]
                    executor.shutdown(kill_workers=True)
                yield row, future.result() if error is None else _Result.of_error(error)
        _idle.update({executor: (last, _circumstances()) for executor, last in slots.items()})
        slots.clear()
    finally:  # an interrupt or an error: nobody stays behind
        for executor in slots:
            executor.shutdown(kill_workers=True)


_idle: dict[ProcessPoolExecutor, tuple] = {}  # of earlier calls: since when, and in what circumstances they started


def _circumstances() -> tuple:
    """What a process takes over when it starts: by whom and where it is started, and code that somebody may be editing,
    known by its latest change."""
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    own = [file for file in files if file.endswith(".py") and not file.startswith((sys.prefix, sys.base_prefix))]
    changed = max((os.stat(file).st_mtime_ns for file in own if os.path.exists(file)), default=0)
    return os.getpid(), dict(os.environ), os.getcwd(), list(sys.path), changed


def _executor() -> ProcessPoolExecutor:
    """One that waits and is as a new one would be, or a new one."""
    while _idle:
        executor, (since, started_in) = _idle.popitem()
        alive = any(process.is_alive() for process in executor._processes.values())  # not killed, not gone by itself
        if alive and time.monotonic() - since < IDLE - 10 and started_in == _circumstances():  # nor about to go
            return executor
        executor.shutdown(kill_workers=True)
    return ProcessPoolExecutor(
        1,
        timeout=IDLE,
        job_reducers={np.memmap: _by_name},
        initializer=_begin_worker,
        initargs=(os.getpid(),),
        env=ONE_THREAD,
    )


def _begin_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group: the parent decides
    torch.set_num_threads(1)

    def end_with_parent() -> None:  # its id is told: it may have died while this process started
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _by_name(array: np.memmap) -> tuple:
    """A memory-mapped array as its file's name and place, where that says all; otherwise its bytes."""
    if array.filename is None or array.mode not in ("r", "r+") or not array.flags.c_contiguous:
        return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # where NumPy's mapping begins in the file
    offset = start + array.ctypes.data - np.frombuffer(array._mmap, np.uint8).ctypes.data
    return np.memmap, (os.fspath(array.filename), array.dtype, "r", offset, array.shape)


def _frame(results: Mapping[tuple[str, Hashable], _Result]) -> pd.DataFrame:
    names = dict.fromkeys(name for result in results.values() for name in result.metrics)
    frame = pd.DataFrame({"variant": [v for v, _ in results], "seed": [s for _, s in results]})
    for name in names:
        values = [result.metrics.get(name, float("nan")) for result in results.values()]
        frame[name] = pd.Series(values, dtype=None if all(np.ndim(v) == 0 for v in values) else object)
    frame["seconds"] = [result.seconds for result in results.values()]
    frame["error"] = [result.error for result in results.values()]
    frame.attrs["tracebacks"] = {f"{v}, {s}": r.traceback for (v, s), r in results.items() if r.error}
    return frame
