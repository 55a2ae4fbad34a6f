"""A lock for the creation of tables, which databases do not let two processes do at once."""

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Number of the advisory lock of PostgreSQL.
_LOCK_NUMBER = zlib.crc32(b"rl_lightning")


@contextmanager
def database_lock(address: str) -> Iterator[None]:
    """A lock that one process of all that use a database has at a time.

    It is free again when its process dies.

    Args:
        address: SQLAlchemy's address. For SQLite it is a file lock, and for PostgreSQL the server's
            advisory lock, which processes on other machines wait for too. Others have no lock.
    """
    if address.startswith("sqlite:///"):
        from filelock import FileLock

        file = Path(address.removeprefix("sqlite:///")).absolute()
        # It is in the temporary folder, because a user would ask about a file next to the database.
        name = f"rl_lightning-{zlib.crc32(str(file).encode()):08x}.lock"
        with FileLock(Path(tempfile.gettempdir(), name)):
            yield
    elif address.startswith("postgresql"):
        from sqlalchemy import NullPool, create_engine, func, select

        engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            connection.execute(select(func.pg_advisory_lock(_LOCK_NUMBER)))
            yield  # the end of the connection gives the lock back
    else:
        yield
