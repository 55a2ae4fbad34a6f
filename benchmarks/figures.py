"""Rebuilds the tables of docs/ and README.md from recorded files.

    python benchmarks/figures.py            # write the tables into the pages
    python benchmarks/figures.py --check    # only compare; the exit status is 1 if one differs

A table in a page is rebuilt if the line before it is `<!-- figures: NAME -->`; NAME is a function
of `tables_of_returns.py` or `tables_of_speed.py`.
`<!-- not recorded: REASON -->` marks a table of measurements without a file.
"""

import argparse
import re
import sys
from pathlib import Path

import tables_of_returns
import tables_of_speed

ROOT = Path(__file__).resolve().parent.parent
TABLES = {each.__name__: each for each in (*tables_of_returns.TABLES, *tables_of_speed.TABLES)}
MARKED = re.compile(r"(<!-- figures: (\w+) -->\n\n?)((?:\|.*\n)+)")


def rebuilt(page: str) -> str:
    """The page with each marked table replaced by the table from files.

    Raises:
        KeyError: If a mark has an unknown name.
    """

    def table(found: re.Match[str]) -> str:
        rows = TABLES[found[2]]()
        lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
        lines.insert(1, f"| {' | '.join('---' for _ in rows[0])} |")
        return found[1] + "".join(re.sub(r"\|  (?=\|)", "| ", line) + "\n" for line in lines)

    return MARKED.sub(table, page)


def pages() -> list[Path]:
    """All pages with tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    args = parser.parse_args()
    differing = []
    for path in pages():
        before = path.read_text()
        after = rebuilt(before)
        if after != before:
            differing.append(path.name)
            if not args.check:
                path.write_text(after)
    for name in differing:
        print(f"{name} {'differs from its files' if args.check else 'is rebuilt'}")
    return 1 if args.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
