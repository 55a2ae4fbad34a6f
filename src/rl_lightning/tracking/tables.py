"""Tables as CSV files."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV file.

    Args:
        path: The file.
        rows: Values by column. A column that a row does not have is empty there.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[*columns])
        writer.writeheader()
        writer.writerows(rows)
