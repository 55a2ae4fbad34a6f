"""Tables in the pages equal the recorded files."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import figures  # noqa: E402

PAGES = {path.name: path.read_text() for path in figures.pages()}
TABLE = re.compile(r"((?:^<!-- .* -->\n\n?)?)((?:^\|.*\n)+)", re.MULTILINE)


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_of_a_page_equal_their_files(name):
    assert figures.rebuilt(PAGES[name]) == PAGES[name], "run python benchmarks/figures.py"


def test_every_function_makes_the_table_of_a_page():
    used = {mark for page in PAGES.values() for _, mark, _ in figures.MARKED.findall(page)}
    assert used == {*figures.TABLES}


def test_a_changed_figure_is_found():
    page = PAGES["results.md"]
    (first, *_) = figures.MARKED.findall(page)
    row = first[2].splitlines()[2]
    changed = page.replace(row, row.replace("1", "7"))
    assert changed != page
    assert figures.rebuilt(changed) == page


@pytest.mark.parametrize("name", PAGES)
def test_every_table_of_measurements_says_where_its_figures_are_from(name):
    for mark, table in TABLE.findall(PAGES[name]):
        cells = [
            cell.strip(" *") for row in table.splitlines()[2:] for cell in row.split("|")[2:-1]
        ]
        numeric = sum(bool(re.match(r"[−-]?\d[\d,.]*( ±| ms| MB|%|$)", cell)) for cell in cells)
        if numeric > 0.4 * len(cells):
            assert re.match("<!-- (figures|not recorded): .+ -->", mark), table.splitlines()[0]
