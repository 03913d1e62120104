"""Bars that leave nothing behind: in a stored notebook, in a log, in a worker."""

import nbclient
import nbformat
import pytest

from reidkit.progress import bar, tell


@pytest.mark.parametrize("show", [True, False])
def test_a_log_stays_clean(capfd, show):
    with bar(2, "fit", "step", show=show) as shown:
        shown.update()
        shown.set_postfix(loss=1)
    assert capfd.readouterr() == ("", "")


CELL = """
import sys
from reidkit.progress import bar, tell
with bar(2, "fit", "step") as shown:
    shown.update(2)
    shown.set_postfix(loss=1)
"""


def test_a_bar_that_waits_and_is_done_before_leaves_no_output_at_all():
    cell = nbformat.v4.new_code_cell(
        """
        from reidkit.progress import bar
        with bar(2, "reading", "img", delay=60) as shown:
            shown.update(2)
        """
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    assert cell.outputs == []


def test_a_stored_notebook_keeps_an_empty_line_only():
    seen = []
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] == "update_display_data":
                seen.append(message["content"]["data"]["text/plain"])
            return super().process_message(message, cell, index)

    Client(notebook, kernel_name="python3").execute()
    assert [dict(output) for output in notebook.cells[0].outputs] == [
        {"output_type": "display_data", "metadata": {}, "data": {"text/plain": ""}}
    ]
    assert any(text.startswith("fit: 100%") for text in seen)
    assert "widgets" not in notebook.metadata


def test_prose_breaks_between_words_and_keeps_its_lines(capsys):
    long = " ".join(["points [+2.61, +5.26]"] * 12)
    tell("first", 2, "\n\n  " + long + " " + "x" * 120)
    first, blank, *rest = capsys.readouterr().out.splitlines()
    assert (first.rstrip(), blank) == ("first 2", "")
    assert all(line.startswith("  ") for line in rest)
    assert [len(line) <= 100 for line in rest] == [True] * (len(rest) - 1) + [False]
    assert " ".join(line.strip() for line in rest) == long + " " + "x" * 120
