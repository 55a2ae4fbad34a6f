"""Lightning's MLFlowLogger, with a store that is opened later."""

from collections.abc import Callable
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import MLFlowLogger

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Stands for "no store". A client for an http address does nothing until it is used, and a client
# for a database would create the database at once.
NO_STORE = "http://localhost:0"


def _public(private: str) -> Any:
    """A property that reads and sets a private attribute."""
    return property(attrgetter(private), lambda self, value: setattr(self, private, value))


class LateMLFlowLogger(MLFlowLogger):
    """MLFlowLogger that opens its store at the first use, so a refused run leaves no file.

    Attributes:
        tracking_uri: Address of the store.
        experiment_name: Name of the experiment. It can be changed until the first use.
        run_name: Name of a new run. It can be changed until the first use.
        chosen_run: Id of the run that is continued or was created; None if a run is still to be
            created. It can be changed until the first use.

    Args:
        tracking_uri: Address of the store.
        open_store: Takes the address of the store, the name of the experiment and the address of
            its artifacts. Opens the store, and creates the experiment if it is new.
        options: Arguments of MLFlowLogger.
    """

    tracking_uri: str = _public("_tracking_uri")
    experiment_name: str = _public("_experiment_name")
    run_name: str | None = _public("_run_name")
    chosen_run: str | None = _public("_run_id")

    def __init__(
        self,
        tracking_uri: str,
        open_store: "Callable[[str, str, str | None], MlflowClient]",
        **options: Any,
    ) -> None:
        super().__init__(tracking_uri=NO_STORE, **options)
        self.tracking_uri = tracking_uri
        self._open_store = open_store
        del self._mlflow_client  # Lightning's constructor makes one for NO_STORE

    @cached_property
    def _mlflow_client(self) -> "MlflowClient":  # type: ignore[override]
        return self._open_store(self.tracking_uri, self.experiment_name, self._artifact_location)

    @property
    def client(self) -> "MlflowClient":
        """The client of the store. Unlike `experiment`, it creates no run."""
        return self._mlflow_client
