"""Notebook 06 takes cells over from 03's long run, and a sweep file names its rows: both must go on fitting."""

import ast
import math
from pathlib import Path

import pytest

from reidkit import ledger, sweeps
from reidkit.parameters import read_yaml_file

ROOT = Path(__file__).resolve().parents[1]
SWEEP = ROOT / "sweeps" / "06_one_bench.yaml"


def assigned(script, name):
    """The expression that a notebook first assigns to a name."""
    for node in ast.parse((ROOT / "notebooks" / "scripts" / f"{script}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return node.value
    raise AssertionError(f"{script} assigns nothing to {name}")


def profile(script, name):
    return ast.literal_eval(assigned(script, "PROFILES").args[0])[name]


def rows():
    keys = [key for name in ("FULL", "INTRA") for key in assigned("06_one_bench", name).keys]
    few = {f"ID, {count} people" for name in ("demo", "long") for count in profile("06_one_bench", name)["few"]}
    return {key.value for key in keys} | few | {"M7, true people", "not fine-tuned"}


@pytest.mark.parametrize("name", ["demo", "long"])
def test_the_bench_is_that_of_notebook_03s_long_run(name):
    here, there = profile("06_one_bench", name), profile("03_dcaml", "long")
    assert {key: here[key] for key in ("people", "size", "dim", "steps")} == {
        key: there[key] for key in ("people", "size", "dim", "steps")
    }
    assert here["P×K"] == (there["P"], 4)


def test_the_sweep_holds_every_row_once():
    runs = list(sweeps.grid(read_yaml_file(SWEEP)))
    named = [method for _, parameters in runs for method in parameters["methods"]]
    assert len(named) == len(set(named))
    assert set(named) == rows()
    assert {name for name, _ in runs} == {"06"}
    assert all(parameters["seeds"] == [0, 1, 2, 3, 4] and parameters["profile"] == "long" for _, parameters in runs)


def test_what_it_takes_from_notebook_03_is_there():
    taken = ast.literal_eval(assigned("06_one_bench", "FROM_03"))
    named = {key.value for name in ("ROWS", "ALTERNATIVES") for key in assigned("03_dcaml", name).keys}
    assert set(taken.values()) <= named
    assert set(taken) <= rows()


def defined(script, name, **known):
    """A function of a notebook, among what it needs to know."""
    for node in ast.parse((ROOT / "notebooks" / "scripts" / f"{script}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            exec(compile(ast.Module([node], []), script, "exec"), known)
            return known[name]
    raise AssertionError(f"{script} defines no {name}")


@pytest.mark.parametrize(
    ("apart", "elsewhere", "complete", "use"),
    [
        (0.02, False, False, "mix"),
        (0.021, True, True, "whole"),
        (0.12, True, True, "whole"),
        (0.121, True, True, "leave"),
        (0.021, False, True, "leave"),  # the same processor: it is not rounding
        (0.021, True, False, "leave"),  # what is missing would be computed here, and machines mixed
        (math.nan, True, True, "leave"),
        (math.inf, True, True, "leave"),
    ],
)
def test_what_becomes_of_stored_cells(apart, elsewhere, complete, use):
    rule = defined("06_one_bench", "use_of_stored", CLOSE=0.02, SPREADS=3)
    assert rule(apart, 0.04, elsewhere, complete) == use
    assert rule(apart, math.nan, elsewhere, complete) == ("mix" if use == "mix" else "leave")  # nothing measured


def test_what_another_processor_computed_are_cells_of_the_demo():
    there, here = ledger.stored("06_one_bench_elsewhere"), ledger.stored("06_one_bench")
    keys = ["method", "gap", "start", "seed"]
    assert set(there.method) == rows() - {"ID, 25 people"}
    assert len(there.merge(here, on=keys)) == len(there) == len(there.drop_duplicates(keys))
    assert there.attrs["provenance"]["machine"] != here.attrs["provenance"]["machine"]
