"""The table of Trainer flags: what each does with every algorithm, or why it is refused.

Tests run every row. `docs/trainer_flags.md` holds the rows that are refused or special, which
`python tests/flag_rows.py` prints.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

AGENTS = ("DQN", "SAC", "A2C", "Reinforce", "PPO", "PQN", "QLearning", "ValueIteration")
CLASSIFIERS = ("RecurrentAttentionModel", "FullyConnectedClassifier")
ALGORITHMS = (*AGENTS, *CLASSIFIERS)
TABLES = ("QLearning", "ValueIteration")

UPDATES = 4  # of an epoch in the runs of the tests


class Run(NamedTuple):
    """What a run of one epoch of `UPDATES` updates did."""

    algorithm: str
    status: int
    trainer: Any
    updates: int  # optimizer steps
    batches: int
    validations: int
    sanity_checks: int
    norms: list[float]  # of the gradients of each update, as the optimizer had them
    largest: list[float]  # absolute number in the gradients of each update
    dtypes: set[str]  # of the parameters while training
    inference: set[bool]  # whether validation ran in inference mode
    anomaly: set[bool]  # whether training ran in anomaly detection
    files: set[str]
    printed: str  # stdout and stderr
    logged: list[Mapping[str, str]]  # rows of metrics.csv
    folder: Any

    def has(self, ending: str) -> bool:
        """Whether a file's path ends like this."""
        return any(path.endswith(ending) for path in self.files)

    def rows_of(self, prefix: str) -> int:
        """Rows of metrics.csv with a number under a metric that begins like this."""
        return sum(any(v and k.startswith(prefix) for k, v in row.items()) for row in self.logged)


class Row(NamedTuple):
    """One flag's value.

    In `arguments`, {monitor} is the algorithm's main metric and {mode} says whether it grows.
    """

    flag: str
    arguments: str  # after --trainer.<flag>; more flags may follow
    shown: str = ""  # the value as the table shows it, where the arguments are too long
    refused: tuple[str, ...] = ()  # by which algorithms
    says: str = ""  # in the error's line, a regular expression
    reason: str = ""  # of the refusal or the remark, in the table
    effect: Callable[[Run], bool] | None = None
    subcommand: str = "fit"
    status: int = 2  # of the refusal
    logger: str = "false"


def row(flag: str, arguments: str, **fields: Any) -> Row:
    return Row(flag, arguments, **fields)


CSV = "CSVLogger --trainer.logger.save_dir runs"
STOPS = (
    "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor {monitor} "
    "--trainer.callbacks.mode max --trainer.callbacks.stopping_threshold -1000"
)
NO_LOGGER = "writes to a logger, and trainer.logger is false"
ON_TRIAL = "makes updates on trial"
FUSED = "--model.optimizer torch.optim.Adam --model.optimizer.fused true"
GRADIENTS = tuple(each for each in ALGORITHMS if each != "ValueIteration")


def exact(dtype: str) -> Callable[[Run], bool]:
    """Parameters have this dtype, and tables, which are float64 always, keep theirs."""
    return lambda run: run.dtypes == {"float64" if run.algorithm in TABLES else dtype}


def clipped(limit: float, key: str) -> Callable[[Run], bool]:
    """No gradient is larger, and one is as large: RAM and SAC clip groups of parameters apart."""

    def effect(run: Run) -> bool:
        values = getattr(run, key)
        groups = {"RecurrentAttentionModel": 2, "SAC": 3}.get(run.algorithm, 1)
        largest = limit * (groups**0.5 if key == "norms" else 1)
        return max(values) <= 1.001 * largest and max(values) >= 0.99 * limit

    return effect


def episodes_or_images(run: Run) -> bool:
    """A test of one batch of two."""
    if run.algorithm in CLASSIFIERS:
        return run.trainer.num_test_batches == [1]
    return float(run.trainer.callback_metrics["test/episodes"]) == 2


def callback(name: str, **fields: Any) -> Row:
    return row("callbacks", name, shown=name.split(" ")[0], **fields)


ROWS = (
    row("accelerator", "cpu"),
    row("accelerator", "auto"),
    row("accelerator", "tpu", refused=ALGORITHMS, says="torch_xla", reason="without torch_xla"),
    row("strategy", "auto"),
    row("strategy", "ddp", effect=lambda run: run.updates == UPDATES),
    row("strategy", "ddp_find_unused_parameters_true"),
    row("strategy", "ddp_spawn", refused=ALGORITHMS, says="spawn.*use ddp",
        reason="environments cannot be pickled: ddp"),
    row("strategy", "fsdp", refused=ALGORITHMS, says="(?i)fsdp",
        reason="a policy acts between updates with all of its weights: ddp"),
    row("devices", "1", reason="2 and more: tests/test_processes.py"),
    row("devices", "0", refused=ALGORITHMS, says="devices='0'", reason="Lightning's own refusal"),
    row("num_nodes", "1", reason="2 nodes: tests/test_trainer_flags.py"),
    row("precision", "32-true", effect=exact("float32"), reason="tables stay float64"),
    row("precision", "64-true", effect=exact("float64")),
    row("precision", "bf16-mixed", effect=exact("float32"),
        reason="values, targets and log-probabilities stay float32; tables stay float64"),
    row("precision", "16-mixed", effect=exact("float32"), reason="as bf16-mixed"),
    row("precision", "bf16-true", refused=AGENTS, says="bf16-true, which rounds rewards",
        reason="rewards, discounts and returns would be rounded to 8 bits: bf16-mixed",
        effect=lambda run: run.dtypes == {"bfloat16"}),
    row("precision", "16-true", refused=ALGORITHMS, says="16-true, and float16 weights",
        reason="float16 without a loss scale: 16-mixed"),
    row("logger", "false", effect=lambda run: not run.has(".csv") and run.has("last.ckpt")),
    row("logger", "true", effect=lambda run: run.has("version_0/metrics.csv")),
    row("logger", CSV, shown="CSVLogger", effect=lambda run: run.rows_of("val/") == 1),
    row("logger", "MLflowTracker --trainer.logger.tracking_uri {store}", shown="MLflowTracker",
        reason="the default", effect=lambda run: run.has("checkpoints/last.ckpt")),
    callback("EarlyStopping --trainer.callbacks.monitor {monitor}"),
    callback("EarlyStopping --trainer.callbacks.monitor missing", refused=ALGORITHMS, status=1,
             says='watches "missing", which has not been logged',
             reason="a metric that nothing logs: one line after the first epoch"),
    callback("LearningRateMonitor", logger=CSV,
             reason="with a logger; its x-axis is the update, as everywhere in Lightning",
             effect=lambda run: run.rows_of("lr-") >= UPDATES),
    callback("LearningRateMonitor", refused=ALGORITHMS, says=NO_LOGGER, reason="without a logger"),
    callback("DeviceStatsMonitor", logger=CSV, reason="with a logger",
             effect=lambda run: run.rows_of("DeviceStatsMonitor") > 0),
    callback("DeviceStatsMonitor", refused=ALGORITHMS, says="Cannot use `DeviceStatsMonitor`",
             reason="without a logger"),
    callback("StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.1",
             refused=("ValueIteration",), says="changes optimizer steps, and ValueIteration takes",
             reason="a sweep is a step of size 1"),
    callback("WeightAveraging"),
    callback("EMAWeightAveraging"),
    callback("GradientAccumulationScheduler --trainer.callbacks.scheduling '{{\"0\": 2}}'",
             refused=("ValueIteration",), says="changes optimizer steps, and ValueIteration takes",
             reason="a batch is the whole dynamics",
             effect=lambda run: run.updates == UPDATES // 2),
    callback("ModelSummary", effect=lambda run: "Trainable params" in run.printed),
    callback("RichModelSummary", effect=lambda run: "Trainable params" in run.printed),
    callback("RichProgressBar --trainer.enable_progress_bar true",
             effect=lambda run: "Epoch 0/0" in run.printed),
    callback("Timer --trainer.callbacks.duration 00:00:00:01 --trainer.max_epochs 100000",
             effect=lambda run: run.updates > UPDATES),
    callback("LambdaCallback", reason="its functions from Python only"),
    callback("OnExceptionCheckpoint --trainer.callbacks.dirpath broken"),
    callback("ModelCheckpoint", refused=ALGORITHMS, says="settings of another one",
             reason="one with the settings of last_checkpoint: change that"),
    callback("ModelCheckpoint --trainer.callbacks.monitor {monitor} "
             "--trainer.callbacks.filename mine --trainer.callbacks.mode {mode} "
             "--trainer.callbacks.every_n_epochs 1 --trainer.callbacks.save_top_k 2",
             reason="with settings of its own", effect=lambda run: run.has("mine.ckpt")),
    callback("ModelPruning --trainer.callbacks.pruning_fn l1_unstructured "
             "--trainer.callbacks.amount 0.5", refused=TABLES, says="prunes layers",
             reason="a table has no layers"),
    callback("BackboneFinetuning", refused=ALGORITHMS, says="backbone", reason="no backbone"),
    callback("BatchSizeFinder", refused=ALGORITHMS, says=ON_TRIAL,
             reason="updates on trial would leave their experience in the run"),
    callback("LearningRateFinder", refused=ALGORITHMS, says=ON_TRIAL, reason="as BatchSizeFinder"),
    row("fast_dev_run", "true", effect=lambda run: run.updates == 1 and not run.files),
    row("fast_dev_run", "2", effect=lambda run: run.updates == 2 and not run.files),
    row("max_epochs", "2", effect=lambda run: (run.updates, run.validations) == (2 * UPDATES, 2)),
    row("max_epochs", "0", effect=lambda run: run.updates == 0),
    row("max_epochs", "-1 --trainer.max_steps 6", effect=lambda run: run.updates == 6),
    row("min_epochs", f"2 --trainer.max_epochs 3 {STOPS}", shown="2",
        reason="with an EarlyStopping that stops at once",
        effect=lambda run: run.updates == 2 * UPDATES),
    row("max_steps", "2", reason="the epoch that it cuts short has no validation",
        effect=lambda run: (run.updates, run.validations) == (2, 0) and run.has("last.ckpt")),
    row("max_steps", f"2 {STOPS}", shown="2, with EarlyStopping",
        effect=lambda run: run.updates == 2),
    row("max_steps", "0", effect=lambda run: run.updates == 0),
    row("min_steps", f"6 --trainer.max_epochs 3 {STOPS}", shown="6",
        reason="with an EarlyStopping that stops at once",
        effect=lambda run: 6 <= run.updates <= 2 * UPDATES),
    row("max_time", "00:00:00:01 --trainer.max_epochs 100000", shown="00:00:00:01",
        effect=lambda run: UPDATES < run.updates < 100_000),
    row("limit_train_batches", "2", effect=lambda run: run.updates == 2),
    row("limit_train_batches", "0.5", effect=lambda run: run.updates == 2),
    row("limit_train_batches", "0.1", refused=ALGORITHMS, says="leaves less than one of the 4",
        reason="less than one batch"),
    row("limit_val_batches", "0",
        effect=lambda run: run.validations == 0
        and not any(key.startswith("val/") for key in run.trainer.callback_metrics)
        and run.has("last.ckpt") and not run.has("best-epoch=0.ckpt")),
    row("limit_val_batches", f"0 {STOPS}", shown="0, with EarlyStopping", refused=ALGORITHMS,
        says="no validation ever logs it", reason="what it watches would never be logged"),
    row("limit_val_batches", "1", effect=lambda run: run.validations == 1),
    row("limit_val_batches", "0.5", refused=ALGORITHMS, says="leaves less than one of the 1",
        reason="less than one batch"),
    row("limit_test_batches", "1", subcommand="test", effect=episodes_or_images),
    row("limit_predict_batches", "1", subcommand="predict",
        effect=lambda run: run.trainer.num_predict_batches == [1]),
    row("overfit_batches", "1", refused=ALGORITHMS, says="each batch is made when",
        reason="each batch is made when it is asked for: limit_train_batches"),
    row("val_check_interval", "2", effect=lambda run: run.validations == 2),
    row("val_check_interval", "0.5", effect=lambda run: run.validations == 2),
    row("val_check_interval", "5", refused=ALGORITHMS, says="an epoch has 4 batches",
        reason="more than the batches of an epoch"),
    row("val_check_interval", "00:00:00:30", effect=lambda run: run.validations == 0),
    row("check_val_every_n_epoch", "2 --trainer.max_epochs 3", shown="2",
        effect=lambda run: run.validations == 1),
    row("check_val_every_n_epoch", "null --trainer.max_epochs 2 --trainer.val_check_interval 3",
        shown="null, with val_check_interval", effect=lambda run: run.validations == 2),
    row("num_sanity_val_steps", "1",
        effect=lambda run: (run.sanity_checks, run.validations) == (1, 1)),
    row("log_every_n_steps", "2", logger=CSV,
        effect=lambda run: run.rows_of("train/loss") + run.rows_of("train/residual") == 2),
    row("log_every_n_steps", "0", logger=CSV, effect=lambda run: run.rows_of("train/") == 0),
    row("enable_checkpointing", "false", effect=lambda run: not run.has(".ckpt")),
    # The output of tests is no terminal, so there is no bar; callbacks/test_progress.py has it.
    row("enable_progress_bar", "true", effect=lambda run: "Epoch 0:" not in run.printed),
    row("enable_model_summary", "true", effect=lambda run: "Trainable params" in run.printed),
    row("accumulate_grad_batches", "2", refused=("ValueIteration",),
        says="accumulation is not supported for manual optimization",
        reason="a batch is the whole dynamics",
        effect=lambda run: (run.updates, run.batches) == (UPDATES // 2, UPDATES)),
    row("gradient_clip_val", "1e-4", refused=("ValueIteration",),
        says="clipping is not supported for manual", reason="there is no gradient",
        effect=clipped(1e-4, "norms")),
    row("gradient_clip_val", "-1", refused=ALGORITHMS, says="make it above 0",
        reason="would turn gradients around"),
    row("gradient_clip_algorithm", "value --trainer.gradient_clip_val 1e-5", shown="value",
        refused=("ValueIteration",), says="clipping is not supported for manual",
        reason="there is no gradient", effect=clipped(1e-5, "largest")),
    row("gradient_clip_algorithm", "norm --trainer.gradient_clip_val 1e-4", shown="norm",
        refused=("ValueIteration",), says="clipping is not supported for manual",
        reason="there is no gradient", effect=clipped(1e-4, "norms")),
    row("deterministic", "true"),
    row("deterministic", "warn"),
    row("benchmark", "true"),
    row("inference_mode", "true", subcommand="validate",
        effect=lambda run: run.inference == {True}),
    row("inference_mode", "false", subcommand="validate",
        effect=lambda run: run.inference == {False}),
    row("use_distributed_sampler", "false", reason="no sampler is ever used"),
    row("profiler", "simple", effect=lambda run: "Profiler Report" in run.printed),
    row("profiler", "advanced", effect=lambda run: "Profiler Report" in run.printed),
    row("profiler", "pytorch"),
    row("detect_anomaly", "true", effect=lambda run: run.anomaly == {True}),
    row("barebones",
        "true --trainer.log_every_n_steps null --trainer.enable_progress_bar null", shown="true",
        reason="without log_every_n_steps and enable_progress_bar",
        effect=lambda run: run.updates == UPDATES and not run.has(".ckpt")),
    row("plugins", "TorchCheckpointIO", reason="in place of the writing of whole files only",
        effect=lambda run: run.has("last.ckpt")),
    row("plugins", "AsyncCheckpointIO", reason="likewise",
        effect=lambda run: run.has("last.ckpt")),
    row("plugins", "LightningEnvironment"),
    row("sync_batchnorm", "true", reason="no network here has batch normalisation"),
    row("reload_dataloaders_every_n_epochs", "1 --trainer.max_epochs 2", shown="1",
        effect=lambda run: run.updates == 2 * UPDATES),
    row("default_root_dir", "elsewhere", reason="without a logger; loggers have their own folder",
        effect=lambda run: run.has("elsewhere/checkpoints/last.ckpt")),
    row("enable_autolog_hparams", "true", logger=CSV,
        effect=lambda run: run.has("hparams.yaml")),
    row("enable_autolog_hparams", "false", logger=CSV,
        effect=lambda run: not run.has("hparams.yaml")),
    row("model_registry", "name", reason="Lightning uploads to it what its loggers are told to"),
)  # fmt: skip


def render() -> str:
    """The rows that are refused or have a remark, as Markdown."""
    lines = ["| flag | value | refused with | remark |", "| --- | --- | --- | --- |"]
    for each in ROWS:
        if not each.refused and not each.reason:
            continue
        refused = "all" if each.refused == ALGORITHMS else ", ".join(each.refused)
        value = (each.shown or each.arguments).replace("{", "").replace("}", "")
        value += f", `{each.subcommand}`" if each.subcommand != "fit" else ""
        lines.append(f"| `{each.flag}` | {value} | {refused} | {each.reason} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(render())
