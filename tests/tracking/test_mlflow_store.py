"""The store when several processes open it at once."""

from mlflow import MlflowClient

from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from small_runs import in_a_process


def _open_store():
    return 0 if MLflowTracker("first").run_id else 1


def test_several_processes_can_create_one_store_at_once(working_folder):
    uri = f"sqlite:///{working_folder}/new.db"
    environment = {"MLFLOW_TRACKING_URI": uri}
    started = [in_a_process(working_folder, _open_store, environment=environment) for _ in range(3)]
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0, 0]
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("first")
    assert len(client.search_runs([experiment.experiment_id])) == 3
