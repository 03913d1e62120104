"""What the README says about speed is what benchmarks/results/ holds and what docs/speed.png shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
SECTION = re.search(r"## How fast\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)[1]
ELSEWHERE = re.search(r"On a newer processor .*?\n\n", SECTION, re.DOTALL)[0]


@pytest.fixture
def chart(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import _chart

    return _chart


def test_the_chart_is_drawn_from_the_committed_results(chart):
    with Image.open(ROOT / "docs" / "speed.png") as image:
        assert image.text["Description"] == chart.described(), "draw it again: python benchmarks/_chart.py"


def multiples(text):
    return {number + "×" for number in re.findall(r"(\d[\d.,]*)\s*(?:×|times\b)", text)}


def with_decoding(chart):
    """Loading beside torchvision's first transforms at 256x128, what ours takes to decode once counted in."""
    rates = json.loads((chart.RESULTS / "loading.json").read_text())["images_per_second"]["256x128"]
    return {chart.label(rates["with decoding once"]["epochs: 10"]["ours / v1"])}


def test_every_multiple_in_the_readme_is_a_bar(chart):
    said = multiples(SECTION.replace(ELSEWHERE, ""))
    assert said
    assert with_decoding(chart) <= said <= {chart.label(times) for _, times, _ in chart.bars()} | with_decoding(chart)


def test_what_the_readme_says_of_another_processor_was_measured_there(chart, monkeypatch):
    folder = BENCHMARKS / "results" / "avx512"
    networks = json.loads((folder / "train.json").read_text())["networks"]
    faster = {chart.label(row["over_plain"]["bf16"]) for row in networks.values()}
    monkeypatch.setattr(chart, "RESULTS", folder)
    said = multiples(ELSEWHERE)
    assert len(said) > 5
    besides = faster | with_decoding(chart)
    assert besides <= said <= {chart.label(times) for _, times, _ in chart.bars()} | besides


def test_other_tools_take_longer(chart):
    """The chart's message. Where another is the faster one, the README has to say so in words."""
    assert all(times > 1 for _, times, _ in chart.bars())


def test_results_name_machine_and_date():
    for file in (BENCHMARKS / "results").rglob("*.json"):
        report = json.loads(file.read_text())
        assert report["processor"], file.name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", report["date"]), file.name


@pytest.mark.parametrize("script", re.findall(r"`(\w+\.py)`", SECTION))
def test_scripts_that_take_peers(script):
    shown = subprocess.run([sys.executable, BENCHMARKS / script, "--help"], capture_output=True, text=True, check=True)
    assert "--peers" in shown.stdout


@pytest.mark.parametrize("script", ["evaluate.py", "rerank.py"])
def test_peers_are_refused_where_there_are_none(script, tmp_path):
    for wrong in (["--size", "msmt17", "--peers", tmp_path], ["--peers", tmp_path]):
        run = subprocess.run([sys.executable, BENCHMARKS / script, *wrong], capture_output=True, text=True)
        assert run.returncode == 2
        assert "--peers" in run.stderr.splitlines()[-1]
