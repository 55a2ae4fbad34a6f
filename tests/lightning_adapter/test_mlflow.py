"""Lightning's MLFlowLogger with a store that is opened later."""

from pathlib import Path

from mlflow import MlflowClient

from rl_lightning.lightning_adapter.mlflow import LateMLFlowLogger


def open_store(uri, experiment, artifact_location):
    client = MlflowClient(uri)
    if client.get_experiment_by_name(experiment) is None:
        client.create_experiment(experiment, artifact_location)
    return client


def tracker_of(uri, **options):
    return LateMLFlowLogger(uri, open_store, **options)


def test_nothing_is_written_before_the_first_use(working_folder):
    tracker_of("sqlite:///new.db", experiment_name="first", run_name="a")
    assert not any(working_folder.iterdir())


def test_experiment_and_run_can_be_named_until_the_first_use(working_folder, store):
    place = Path("artifacts").absolute().as_uri()
    tracker = tracker_of(store, experiment_name="first", artifact_location=place)
    tracker.experiment_name, tracker.run_name = "second", "b"
    assert tracker.chosen_run is None
    run = tracker.experiment.get_run(tracker.run_id)
    assert tracker.chosen_run == run.info.run_id
    assert run.info.run_name == "b"
    experiment = MlflowClient(store).get_experiment(run.info.experiment_id)
    assert (experiment.name, experiment.artifact_location) == ("second", place)


def test_a_chosen_run_is_continued(working_folder, store):
    first = tracker_of(store, experiment_name="third")
    again = tracker_of(store, experiment_name="third")
    again.chosen_run = first.run_id
    again.log_metrics({"loss": 1.0}, 7)
    again.finalize("success")
    run = first.client.get_run(first.run_id)
    assert (run.data.metrics, run.info.status) == ({"loss": 1.0}, "FINISHED")


def test_the_client_alone_creates_no_run(working_folder, store):
    tracker = tracker_of(store, experiment_name="fourth")
    found = tracker.client.get_experiment_by_name("fourth")
    assert tracker.client.search_runs([found.experiment_id]) == []
