"""Lightning's MLFlowLogger, with a store that is opened later."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import MLFlowLogger

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Stands for "no store". A client for an http address does nothing until it is used, and a client
# for a database would create the database at once.
NO_STORE = "http://localhost:0"


class LateMLFlowLogger(MLFlowLogger):
    """MLFlowLogger that opens its store at the first use, so a refused run leaves no file.

    Until then, the experiment's name and the run can be changed.

    Args:
        tracking_uri: Address of the store.
        options: Arguments of MLFlowLogger.
    """

    def __init__(self, tracking_uri: str, **options: Any) -> None:
        self._client: MlflowClient | None = None
        super().__init__(tracking_uri=NO_STORE, **options)
        self._tracking_uri = tracking_uri

    @abstractmethod
    def open_client(self) -> "MlflowClient":
        """Open the store of `tracking_uri`, and create `experiment_name` if it is new."""

    @property
    def client(self) -> "MlflowClient":
        """The client of the store. Unlike `experiment`, it creates no run."""
        if self._client is None:
            self._client = self.open_client()
        return self._client

    @property
    def _mlflow_client(self) -> "MlflowClient":
        return self.client

    @_mlflow_client.setter
    def _mlflow_client(self, client: Any) -> None:
        """Ignore the client that Lightning's constructor makes."""

    @property
    def tracking_uri(self) -> str:
        """Address of the store."""
        return self._tracking_uri

    @property
    def artifact_location(self) -> str | None:
        """Address of the artifacts of a new experiment."""
        return self._artifact_location

    @property
    def experiment_name(self) -> str:
        """Name of the experiment."""
        return self._experiment_name

    @experiment_name.setter
    def experiment_name(self, name: str) -> None:
        self._experiment_name = name

    @property
    def run_name(self) -> str | None:
        """Name of a new run."""
        return self._run_name

    @run_name.setter
    def run_name(self, name: str | None) -> None:
        self._run_name = name

    @property
    def chosen_run(self) -> str | None:
        """Id of the run that is continued or was created; None if a run is still to be created."""
        return self._run_id

    @chosen_run.setter
    def chosen_run(self, run_id: str | None) -> None:
        self._run_id = run_id
