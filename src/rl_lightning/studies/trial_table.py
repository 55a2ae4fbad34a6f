"""The table of a study's trials, in a database that several processes and machines share.

The database decides what may exist once: a study of a name, a trial of a number, and a trial of
some parameters. A process owns a trial while it counts the trial's `beat` up. It takes a trial over
by an UPDATE with the owner and the beat that it has seen, so that one process of several gets it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.tracking.database_lock import database_lock

_METADATA = sa.MetaData()
_STUDIES = sa.Table(
    "rl_lightning_studies",
    _METADATA,
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("id", sa.String(32), nullable=False),
    sa.Column("contents", sa.Text, nullable=False),
    sa.Column("parent_run", sa.String(64)),
)
_TRIALS = sa.Table(
    "rl_lightning_trials",
    _METADATA,
    sa.Column("study", sa.String(250), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(64), nullable=False),  # of the parameters
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("owner", sa.String(32), nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "digest"),
)


class Trial(NamedTuple):
    """One row of the table.

    Attributes:
        number: From 0 on.
        parameters: Values by flag.
        state: "running", "stopped" (any process may resume it), "complete", "pruned" or "failed".
        owner: The process that runs it, or ran it last.
        beat: Is counted up by the owner.
        result: What is known of the run; see `Trials`.
    """

    number: int
    parameters: dict[str, Any]
    state: str
    owner: str
    beat: int
    result: dict[str, Any]

    @property
    def curve(self) -> list[list[float]]:
        """[step, score, seconds of training] of each validation."""
        return self.result.get("curve", [])

    @property
    def name(self) -> str:
        """Number and parameters, as in "trial 7 lr 0.002", or "seed 3"."""
        if [*self.parameters] == ["seed_everything"]:
            return f"seed {self.parameters['seed_everything']}"
        last = [flag.rpartition(".")[2] for flag in self.parameters]
        values = (
            f"{short if last.count(short) == 1 else flag} {short_value(value)}"
            for short, (flag, value) in zip(last, self.parameters.items(), strict=True)
        )
        return f"trial {self.number} {', '.join(values)}"


def short_value(value: Any) -> str:
    """A value with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class TrialTable:
    """The trials of one study.

    Args:
        address: SQLAlchemy's address of the database.
        study: Name of the study.
        contents: What must be equal whenever the study is started.

    Raises:
        ConfigurationError: If the database cannot be used, or has another study of this name.
    """

    def __init__(self, address: str, study: str, contents: Mapping[str, Any]) -> None:
        self.address, self.study = address, study
        self._worker = uuid4().hex
        try:
            options = {"timeout": 60} if address.startswith("sqlite") else {}
            self._engine = sa.create_engine(address, connect_args=options, pool_pre_ping=True)
            with database_lock(address):
                _METADATA.create_all(self._engine)
            row = {"name": study, "id": uuid4().hex, "contents": json.dumps(contents)}
            if not self._insert(_STUDIES, row):
                self._check(json.loads(self._study().contents), contents)
        except (SQLAlchemyError, ImportError) as error:
            raise ConfigurationError(
                f"the storage {address} cannot be opened ({one_line(error, 200)}): give "
                "another --storage, such as sqlite:///studies.db"
            ) from error

    def _check(self, before: Mapping[str, Any], contents: Mapping[str, Any]) -> None:
        for key, value in contents.items():
            if before.get(key) != value:
                raise ConfigurationError(
                    f"the study {self.study} in {self.address} has {key} {before.get(key)}, and "
                    f"now {value} is given: resume it with the same, or give another --name"
                )

    def _study(self) -> Any:
        with self._engine.begin() as connection:
            return connection.execute(
                sa.select(_STUDIES).where(_STUDIES.c.name == self.study)
            ).one()

    def _insert(self, table: sa.Table, row: Mapping[str, Any]) -> bool:
        """Whether the row is new; it is not if the database has another one in its place."""
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(table).values(**row))
        except IntegrityError:
            return False
        return True

    def parent_run(self, find_or_make: Callable[[str], str]) -> str:
        """Id of the study's MLflow run. Only one process makes it.

        Args:
            find_or_make: Takes the id of this study, and returns that of the run. It must find the
                run of a process that was killed before it returned.
        """
        with database_lock(self.address):
            row = self._study()
            run_id: str = row.parent_run or find_or_make(row.id)
            mine = sa.update(_STUDIES).where(_STUDIES.c.name == self.study)
            with self._engine.begin() as connection:
                connection.execute(mine.values(parent_run=run_id))
        return run_id

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        columns = [_TRIALS.c[name] for name in Trial._fields]
        query = sa.select(*columns).where(_TRIALS.c.study == self.study).order_by(_TRIALS.c.number)
        with self._engine.begin() as connection:
            rows = [Trial(*row) for row in connection.execute(query)]
        return [
            row._replace(parameters=json.loads(row.parameters), result=json.loads(row.result))  # type: ignore[arg-type]
            for row in rows
        ]

    def add(self, number: int, parameters: Mapping[str, Any]) -> Trial | None:
        """Begin a new trial; None if the study has this number or these parameters already."""
        digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
        new = Trial(number, {**parameters}, "running", self._worker, 0, {})
        row = {**_as_row(new), "study": self.study, "digest": digest}
        return new if self._insert(_TRIALS, row) else None

    def save(self, trial: Trial, state: str, result: Mapping[str, Any]) -> Trial | None:
        """Save the state and the result of a trial, which is this process's own from now on.

        Returns:
            The changed trial; None if another process has changed it since `trial` was read.
        """
        columns, beat = _TRIALS.c, trial.beat + 1
        changed = trial._replace(state=state, result={**result}, owner=self._worker, beat=beat)
        seen = (columns.study == self.study) & (columns.number == trial.number)
        seen &= (columns.owner == trial.owner) & (columns.beat == trial.beat)
        with self._engine.begin() as connection:
            done = connection.execute(sa.update(_TRIALS).where(seen).values(**_as_row(changed)))
        return changed if done.rowcount == 1 else None


def _as_row(trial: Trial) -> dict[str, Any]:
    json_of = {name: json.dumps(getattr(trial, name)) for name in ("parameters", "result")}
    return {**trial._asdict(), **json_of}
