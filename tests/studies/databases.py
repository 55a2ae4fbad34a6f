"""Databases for the tests of studies: a SQLite file, and a PostgreSQL server where there is one."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

KINDS = ("sqlite", "postgresql")
_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def why_not(kind: str) -> str | None:
    """Why this kind of database cannot be had here."""
    if kind == "sqlite":
        return None
    if not _INSTALLED:
        return "PostgreSQL is not installed"
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    return None


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Address of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/studies.db"
        return
    # The server refuses to run as root, so it runs as the user postgres in a folder of its own.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with socket.socket() as free, TemporaryDirectory(prefix="rl_lightning-postgresql-") as cluster:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        if as_user:
            shutil.chown(cluster, "postgres")
        tool = _INSTALLED[-1]
        initdb = [tool / "initdb", "-D", f"{cluster}/data", "-A", "trust", "-U", "test"]
        server = [tool / "pg_ctl", "-D", f"{cluster}/data", "-w", "-l", f"{cluster}/log"]
        options = f"-h 127.0.0.1 -p {port} -k {cluster}"
        subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd="/")
        started = [*as_user, *server, "-o", options, "start"]
        subprocess.run(started, check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql+psycopg://test@127.0.0.1:{port}/postgres"
        finally:
            stopped = [*as_user, *server, "-m", "immediate", "stop"]
            subprocess.run(stopped, check=True, stdout=subprocess.DEVNULL, cwd="/")
