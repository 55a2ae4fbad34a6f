"""Opens MLflow's store."""

from typing import TYPE_CHECKING

from rl_lightning.runtime.errors import ConfigurationError, one_line
from rl_lightning.tracking.database_lock import database_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_store(uri: str, experiment: str, artifact_location: str | None = None) -> "MlflowClient":
    """Open a store. Creates the database of a new local store, and a new experiment.

    Args:
        uri: Address of the store.
        experiment: Name of the experiment.
        artifact_location: Address of the artifacts of a new experiment.

    Raises:
        ConfigurationError: If MLflow cannot open it.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        with database_lock(uri):
            client = MlflowClient(uri)
            if client.get_experiment_by_name(experiment) is None:
                try:
                    client.create_experiment(experiment, artifact_location)
                except MlflowException:  # another process may have been faster
                    if client.get_experiment_by_name(experiment) is None:
                        raise
        return client
    except (MlflowException, OSError) as error:
        raise ConfigurationError(
            f"MLflow cannot open the store {uri} ({one_line(error, 200)}): give another "
            "tracking_uri"
        ) from error


def open_on_training_runs(client: "MlflowClient", experiment_id: str) -> None:
    """Let MLflow's page of an experiment open on the table of training runs."""
    client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
