import csv
import html.parser
import json
import re

import pytest
import small

from reidkit import report
from reidkit.__main__ import main
from reidkit.results import strict

ROWS = [
    {"variant": name, "seed": seed, "mAP": base + gain * (1 + seed / 10), "steps": 200, "seconds": 3.0, "error": None}
    for seed in range(5)
    for name, base, gain in (("baseline", 0.4, 0.0), ("baseline+CCSC", 0.4, 0.03))
]
HERE = "c" * 16


@pytest.fixture(autouse=True)
def _code(monkeypatch):
    monkeypatch.setattr(report, "code_hash", lambda: HERE)


class Page(html.parser.HTMLParser):
    """The tags of a page, which must be balanced, and its text."""

    VOID = ("meta", "img", "hr", "link", "br")

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def written(out, **more):
    result = report.write_report(out, **more)
    with open(result.csv, newline="") as file:
        return result, Page(result.page), list(csv.DictReader(file))


def test_a_page_of_one_paper(tmp_path):
    small.finished(tmp_path, rows=ROWS, seeds=range(5), paper="ccsc")
    result, page, rows = written(tmp_path)
    assert (result.finished, result.failed) == (1, 0)
    text = " ".join(page.text.split())
    assert "Title of 02_ccsc" in text
    assert "43.6 ± 0.5" in text  # ours, in percent: 40 + 3.6, standard deviation of 0, 0.3, … 1.2
    assert "reproduced" in text
    assert "Beside ccsc as printed, market1501" in text
    assert "A section 2 s" in text
    assert "torch 2.11" in text
    assert "versions of the code" not in text
    (image,) = page.all("img")
    assert image["src"] == f"data:image/png;base64,{small.png()}"
    assert "A section" in image["alt"]
    assert "the gain is 3 points <2026-01-01>" in image["alt"]  # printed in the next cell; escaped
    ours = [row for row in rows if row["kind"] == "row" and row["name"] == "baseline+CCSC" and row["metric"] == "mAP"]
    assert {row["mean"] for row in ours} == {"0.436"}
    on_market = [float(row["reported_percent"]) for row in ours if row["reported_on"] == "market1501"]
    assert on_market == [report.ledger.look_up("baseline+CCSC", "mAP", paper="ccsc", dataset="market1501")]
    assert all(float(row["reported_percent"]) > 10 for row in ours)
    claims = {row["verdict"] for row in rows if row["kind"] == "claim"}
    assert claims == {"reproduced", "not testable here"}


def test_printed_numbers_are_read_as_often_for_many_rows_as_for_few(tmp_path, monkeypatch):
    read, reported = [], report.ledger.reported
    monkeypatch.setattr(report.ledger, "reported", lambda *a, **k: read.append(a) or reported(*a, **k))
    times = []
    for count in (2, 40):
        more = [row | {"variant": f"{row['variant']}, {i}"} for i in range(count) for row in ROWS]
        small.finished(tmp_path / str(count), rows=ROWS + more, seeds=range(5), paper="ccsc")
        read.clear()
        written(tmp_path / str(count))
        times.append(len(read))
    assert times[0] == times[1] > 0


def test_the_page_needs_no_network(tmp_path):
    small.finished(tmp_path, rows=ROWS, paper="ccsc")
    _, page, _ = written(tmp_path)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    assert all(not link["href"].startswith(("http", "//")) for link in page.all("a"))
    assert not re.search(r"url\(|@import|https?://", (tmp_path / "report.html").read_text())
    runs = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert runs
    assert all((tmp_path / run).is_file() for run in runs)


@pytest.mark.parametrize("there", [True, False])
def test_no_runs_are_said(tmp_path, capsys, there):
    out = tmp_path / "runs"
    if there:
        (out / "02_ccsc").mkdir(parents=True)
    assert main(["report", "--runs", str(out)]) == 0
    assert capsys.readouterr().out.startswith("0 finished runs: ")
    assert "no finished run here yet" in Page(out / "report.html").text
    assert len((out / "report.csv").read_text().splitlines()) == 1


def test_mixed_versions_are_said_and_not_pooled(tmp_path):
    small.finished(tmp_path, rows=ROWS[:2], seeds=[0], code=HERE, date="2026-02-02")
    small.finished(tmp_path, rows=[row | {"mAP": 0.9} for row in ROWS[2:4]], seeds=[1], code="d" * 16)
    _, page, rows = written(tmp_path)
    text = " ".join(page.text.split())
    assert "These runs come from 2 versions of the code" in text
    assert f"{HERE} (the code that is here now)" in text
    assert "Older code dddddddddddddddd" in text
    assert {row["code"] for row in rows} == {HERE, "d" * 16}
    assert {row["seeds"] for row in rows if row["kind"] == "row"} == {"1"}
    assert len(page.all("img")) == 1  # of the newest


def test_runs_of_another_code_than_the_one_here(tmp_path):
    small.finished(tmp_path, rows=ROWS, code="d" * 16)
    _, page, _ = written(tmp_path)
    assert "All runs come from another version of the code" in page.text


def test_seeds_of_several_runs_are_one_table(tmp_path):
    for seed in range(3):
        small.finished(tmp_path, rows=ROWS[2 * seed : 2 * seed + 2], seeds=[seed], code=HERE)
    small.finished(tmp_path, rows=ROWS[:2], seeds=[0], gap=0.5, code=HERE)
    again = [row | {"mAP": 0.5} for row in ROWS[:2]]
    small.finished(tmp_path, rows=again, seeds=[0, 9], code=HERE, date="2026-03-03")  # seed 0 once more, later
    _, _, rows = written(tmp_path)
    maps = [row for row in rows if row["metric"] == "mAP" and row["kind"] == "row"]
    counted = {(row["parameters"], row["name"]): (row["seeds"], row["mean"]) for row in maps}
    assert counted['{"gap": 0.5}', "baseline"] == ("1", "0.4")
    assert counted['{"gap": 1.0}', "baseline"] == ("3", "0.433333")  # (0.5 + 0.4 + 0.4) / 3


def test_failed_and_unreadable_runs_are_said(tmp_path):
    good = small.finished(tmp_path, rows=ROWS)
    failed = tmp_path / "03_dcaml" / "plaza__profile=demo__0.failed"
    failed.mkdir(parents=True)
    (failed / "log.txt").write_text("== cell 1\nfailed in cell 6 of 8: RuntimeError: <no> memory\n\nmore\n")
    broken = tmp_path / "03_dcaml" / "plaza__profile=demo__1"
    broken.mkdir()
    (broken / "results.json").write_text("{")
    (tmp_path / "03_dcaml" / ".plaza__2.x.part").mkdir()
    result, page, _ = written(tmp_path)
    assert (result.finished, result.failed) == (1, 1)
    assert "failed in cell 6 of 8: RuntimeError: <no> memory" in page.text
    assert "1 cannot be read" in page.text
    (good / "02_ccsc.ipynb").unlink()  # its pictures go, its numbers stay
    assert "40.0" in written(tmp_path)[1].text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r["run"].pop("notebook_hash"), "KeyError: 'notebook_hash'"),
        (lambda r: r["run"].pop("dataset_fingerprint"), "KeyError: 'dataset_fingerprint'"),
        (lambda r: r["run"].pop("notebook"), "KeyError: 'notebook'"),
        (lambda r: r["run"].update(profile=["demo"]), "TypeError: run, profile is list"),
        (lambda r: r["run"].update(seconds="long"), "TypeError: run, seconds is str"),
        (lambda r: r["run"].update(commit=7), "TypeError: run, commit is int"),
        (lambda r: r["environment"].pop("versions"), "KeyError: 'versions'"),
        (lambda r: r["environment"].update(machine=None), "TypeError: environment, machine is NoneType"),
        (lambda r: r["environment"].update(date=2026), "TypeError: environment, date is int"),
        (lambda r: r.update(sections=["A"]), "TypeError: sections is list"),
        (lambda r: r.update(rows={"variant": 1}), "TypeError: rows is dict"),
        (lambda r: r.update(rows=[1]), "TypeError: a row is int"),
        (lambda r: r.update(rows=[{"variant": [], "seed": 0}]), "TypeError: rows, variant is list"),
        (lambda r: r.update(run=None), "TypeError: run is NoneType"),
    ],
)
def test_an_odd_run_is_named_and_does_not_stop_the_page(tmp_path, capsys, spoil, message):
    small.finished(tmp_path, rows=ROWS)
    odd = small.finished(tmp_path, "03_dcaml", rows=ROWS) / "results.json"
    results = json.loads(odd.read_text())
    spoil(results)
    odd.write_text(json.dumps(results))
    assert main(["report", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("1 finished run: ")
    text = Page(tmp_path / "report.html").text
    assert f"{odd.relative_to(tmp_path)}: {message}" in text
    assert "Title of 02_ccsc" in text


def test_a_run_that_cannot_be_shown_for_any_reason_is_named(tmp_path, monkeypatch):
    small.finished(tmp_path, rows=ROWS)
    odd = small.finished(tmp_path, "03_dcaml", rows=ROWS)
    table = report.ours

    def ours(group):
        if group.record["notebook"] == "03_dcaml":
            raise ZeroDivisionError("of all things")
        return table(group)

    monkeypatch.setattr(report, "ours", ours)
    result, page, rows = written(tmp_path)
    assert result.finished == 1
    assert f"{odd.relative_to(tmp_path)}/results.json: ZeroDivisionError: of all things" in page.text
    assert {row["notebook"] for row in rows} == {"02_ccsc"}


@pytest.mark.parametrize("lost", ["id", "paper", "metric", "statement", "better", "why", "verdict", "low"])
def test_saved_verdicts_without_a_column_are_said(tmp_path, lost):
    frame = report.ledger.verdicts(report.pd.DataFrame(ROWS), report.ledger.claims("ccsc"))
    small.finished(tmp_path, rows=ROWS, verdicts=strict(frame.drop(columns=lost)))
    _, page, rows = written(tmp_path)
    assert f"is not a table of them (ValueError: no column {lost!r})" in page.text
    assert {row["kind"] for row in rows} == {"row"}


@pytest.mark.parametrize("verdicts", ["all reproduced", {"a": 1}, [1, 2]])
def test_saved_verdicts_that_are_no_table_are_said(tmp_path, verdicts):
    small.finished(tmp_path, rows=ROWS, verdicts=verdicts)
    assert "is not a table of them" in written(tmp_path)[1].text


def test_saved_verdicts_on_a_paper_that_nobody_knows_are_said(tmp_path):
    frame = report.ledger.verdicts(report.pd.DataFrame(ROWS), report.ledger.claims("ccsc"))
    small.finished(tmp_path, rows=ROWS, verdicts=strict(frame.assign(paper="ccc")))
    _, page, rows = written(tmp_path)
    assert "No verdicts: " in page.text
    assert {row["kind"] for row in rows} == {"row"}


def test_notebooks_without_variants_and_results_without_numbers(tmp_path):
    rows = [{"start": start, "gap": 1.0, "seed": seed, "mAP": 0.2, "rank1": None} for seed in (0, 1) for start in "ab"]
    small.finished(tmp_path, "00_problem", rows=rows)
    small.finished(tmp_path, "07_new", rows=[])
    small.finished(tmp_path, "08_other", rows=[{"variant": "x", "seed": 0, "mAP": 0.1}], paper="ccsc")
    _, page, csv_rows = written(tmp_path)
    assert "no rows of numbers" in page.text
    assert {row["name"] for row in csv_rows if row["notebook"] == "00_problem"} == {"a, 1.0", "b, 1.0"}
    assert {row["verdict"] for row in csv_rows if row["kind"] == "claim"} == {"not testable here"}


def test_the_paper_is_found_by_its_claims(tmp_path):
    small.finished(tmp_path, rows=ROWS)
    small.finished(tmp_path, "00_problem", rows=[{"variant": "fine-tuned", "seed": 0, "mAP": 0.1}])
    found = {group.record["notebook"]: group.verdicts for group in report.gather(tmp_path).groups}
    assert "ccsc" in found["02_ccsc"][0]
    assert found["00_problem"] == ({}, "")


def test_a_paper_that_nobody_knows_is_said(tmp_path):
    small.finished(tmp_path, rows=ROWS, paper="ccc")
    _, page, _ = written(tmp_path)
    assert "No verdicts: " in page.text
    assert "'ccc'" in page.text


def test_a_paper_with_claims_and_no_printed_numbers_has_verdicts(tmp_path, monkeypatch):
    printed = report.ledger.reported()
    without = printed[printed["paper"] != "ccsc"]

    def reported(paper=None, **where):
        if paper == "ccsc":
            raise report.ledger.LedgerError("reported.csv has no paper 'ccsc'")
        return without

    monkeypatch.setattr(report.ledger, "reported", reported)
    small.finished(tmp_path, rows=ROWS)
    written = report.write_report(tmp_path)
    assert (written.finished, written.unreadable) == (1, 0)
    rows = list(csv.DictReader(written.csv.read_text(encoding="utf-8").splitlines()))
    assert {row["paper"] for row in rows if row["kind"] == "claim"} == {"ccsc"}


def test_verdicts_that_a_notebook_saved_count(tmp_path):
    frame = report.ledger.verdicts(report.pd.DataFrame(ROWS[:2]), report.ledger.claims("ccsc"))
    frame["statement"] = "One seed says little."
    saved = strict(frame)  # of one seed: the interval's infinite ends are null
    small.finished(tmp_path, rows=[], verdicts=saved)
    _, page, rows = written(tmp_path)
    assert "One seed says little." in page.text
    assert "one seed" in page.text
    assert {row["verdict"] for row in rows} == {"undecided", "not testable here"}
    small.finished(tmp_path, "03_dcaml", rows=[], verdicts=[{"x": 1}])
    assert "is not a table of them" in written(tmp_path)[1].text


def test_a_notebook_that_is_not_finished_shows_its_pictures_so_far(tmp_path):
    made = small.finished(tmp_path, rows=ROWS)
    (made / "results.json").unlink()
    made.rename(made.with_name(f".{made.name}.x.part"))
    result, page, _ = written(tmp_path)
    assert result.finished == 0
    assert "02_ccsc is not finished: its pictures so far" in page.text
    assert len(page.all("img")) == 1


def test_a_page_elsewhere(tmp_path, capsys):
    small.finished(tmp_path / "runs", rows=ROWS)
    page = tmp_path / "my pages" / "all.html"
    assert main(["report", "--runs", str(tmp_path / "runs"), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"1 finished run: {page}, {page.with_suffix('.csv')}\n"
    links = [link["href"] for link in Page(page).all("a") if link["href"].endswith(".ipynb")]
    assert links == [path.as_uri() for path in tmp_path.rglob("*.ipynb")]


def test_a_page_of_another_ending_is_refused(tmp_path, capsys):
    for page in (tmp_path / "page.csv", tmp_path):
        assert main(["report", "--runs", str(tmp_path), "--out", str(page)]) == 2
        assert f"the page {page} must be a file that ends in .html" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_groups_come_from_the_profile_that_means_most(tmp_path):
    for profile in ("demo", "paper", "smoke", "long"):
        small.finished(tmp_path, rows=ROWS, profile=profile)
    found = [group.record["profile"] for group in report.gather(tmp_path).groups]
    assert found == ["paper", "long", "demo", "smoke"]


def test_the_order_of_parameters_parts_no_runs(tmp_path):
    small.finished(tmp_path, rows=ROWS[:2], seeds=[0])
    other = small.finished(tmp_path, rows=ROWS[2:4], seeds=[1]) / "results.json"
    results = json.loads(other.read_text())
    results["run"]["parameters"] = dict(reversed(results["run"]["parameters"].items()))
    other.write_text(json.dumps(results))
    assert len(report.gather(tmp_path).groups) == 1


def test_what_is_no_finished_run_is_passed_over(tmp_path):
    small.finished(tmp_path, rows=ROWS)
    running = small.finished(tmp_path, rows=ROWS, gap=0.5)
    running.rename(running.with_name(f".{running.name}.x.part"))  # saved its results, is not renamed yet
    (tmp_path / "02_ccsc" / "notes").mkdir()
    (tmp_path / "02_ccsc" / "notes.txt").write_text("mine")
    found = report.gather(tmp_path)
    assert (len(found.finished), found.failed, found.unreadable, len(found.running)) == (1, [], [], 1)


def test_sections_are_seconds(tmp_path):
    odd = small.finished(tmp_path, rows=ROWS) / "results.json"
    odd.write_text(json.dumps(json.loads(odd.read_text()) | {"sections": {"A": "long"}}))
    assert report.gather(tmp_path).unreadable == [(odd.parent, "TypeError: sections, A is str")]
