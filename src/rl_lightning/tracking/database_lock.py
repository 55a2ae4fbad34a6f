"""A lock for databases in local files."""

import tempfile
import zlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any


def database_lock(address: str) -> AbstractContextManager[Any]:
    """A lock that one thread of all processes of this machine has at a time.

    SQLite has no SELECT … FOR UPDATE, and MLflow and Optuna create their tables without a lock.

    Args:
        address: SQLAlchemy's address. A database that is not a SQLite file needs no lock, and has
            none.
    """
    from filelock import FileLock

    if not address.startswith("sqlite:///"):
        return nullcontext()
    file = Path(address.removeprefix("sqlite:///")).absolute()
    # It is not beside the database, where it would be one more file that a user asks about.
    name = f"rl_lightning-{zlib.crc32(str(file).encode()):08x}.lock"
    return FileLock(Path(tempfile.gettempdir(), name))
