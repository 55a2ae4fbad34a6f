"""The front door: LightningCLI with this package's modules, datamodules and callbacks.

An experiment is one YAML file; every value in it can be overridden by a flag of its path.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

# A short class name in YAML is that of an imported class.
from rl_lightning import datamodules, modules, optimizers  # noqa: F401
from rl_lightning.callbacks import (
    ConfusionPicture,
    EpisodeWriter,
    ExperienceMonitor,
    GlimpsePictures,
    RenewPriorities,
    Safeguards,
    TargetNetwork,
    ValuePictures,
)
from rl_lightning.callbacks.needs import NeedsCallback, check_needs
from rl_lightning.callbacks.safeguards import StoppedError
from rl_lightning.experience import check_batch_types, check_pair
from rl_lightning.runtime.allocator import keep_freed_memory
from rl_lightning.runtime.checkpoints import AtomicCheckpoints, check_checkpoint
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line
from rl_lightning.runtime.parser import OneLineParser, essence
from rl_lightning.runtime.ranks import are_many, is_loss_of_another, use_batch_scheduling
from rl_lightning.runtime.trainer_flags import check_flags, raised_by_lightning
from rl_lightning.tracking.mlflow_tracker import MLflowTracker, TrackConfig, run_folder

_IRRELEVANT_WARNINGS = (
    # A length is what keeps Lightning from fetching ahead; and there are no workers.
    r"Your `IterableDataset` has `__len__` defined",
    # One process feeds the environments: more workers would be more environments.
    r"The '\w+_dataloader' does not have many workers",
    # Nor are there indices into a stream of games.
    r"Couldn't infer the batch indices",
    # A checkpoint of elsewhere begins a run in a folder of its own; one of a run goes on in its.
    r"The dirpath has changed from",
    r"Checkpoint directory .* exists and is not empty",
    # Gymnasium's traceback of what a copy in another process raised: one line says it here.
    r"\x1b\[31mERROR: (Received the following error|Traceback|Raising the last exception)",
    # Between Lightning and torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)

# What the experiments here share; see --print_config.
TRAINER_DEFAULTS = {
    "trainer.accelerator": "cpu",
    "trainer.num_sanity_val_steps": 0,
    "trainer.enable_model_summary": False,
    "trainer.default_root_dir": "runs",
    "trainer.logger": {"class_path": "rl_lightning.tracking.mlflow_tracker.MLflowTracker"},
}
# Each stands in the Trainer's callbacks where it fits the module and the data.
DEFAULT_CALLBACKS: dict[str, tuple[type[Callback], dict[str, Any]]] = {
    "target_network": (TargetNetwork, {}),
    "renew_priorities": (RenewPriorities, {}),
    "experience_monitor": (ExperienceMonitor, {}),
    "episode_writer": (EpisodeWriter, {}),
    "value_pictures": (ValuePictures, {}),
    "confusion_picture": (ConfusionPicture, {}),
    "glimpse_pictures": (GlimpsePictures, {}),
    "checkpoint": (ModelCheckpoint, {"filename": "best-{epoch}"}),
    "last_checkpoint": (
        ModelCheckpoint,
        # By default Lightning writes none where an epoch ends without a validation.
        {"filename": "last", "enable_version_counter": False, "save_on_train_epoch_end": True},
    ),
    "progress_bar": (TQDMProgressBar, {"refresh_rate": 25}),  # each refresh costs time
}

# What some algorithms cannot train without, so that it stands in bare Trainers too.
NECESSARY_CALLBACKS = (TargetNetwork, RenewPriorities)

_LOST = "another process of this run is gone: what it said before it went is the reason"


@contextmanager
def _configuring() -> Iterator[None]:
    """Whatever fails while the configuration is read is about the configuration."""
    try:
        yield
    except Exception as error:
        if _error_for_people(error) is not None:
            raise
        raise ConfigurationError(
            f"the configuration cannot be used: {type(error).__name__}: {essence(str(error))}"
        ) from error


class _CLI(LightningCLI):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--num_threads",
            type=int | None,
            default=1,
            help="Threads of torch on the CPU; null leaves torch's default. One is fastest for "
            "small networks.",
        )
        parser.set_defaults(TRAINER_DEFAULTS)
        for key, (callback, defaults) in DEFAULT_CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
            parser.set_defaults({f"{key}.{name}": value for name, value in defaults.items()})
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        for shape in ("environment", "image_shape", "num_classes"):
            parser.link_arguments(
                f"data.{shape}", f"model.init_args.{shape}", apply_on="instantiate"
            )

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand != "fit":
            parser.add_argument(
                "--untrained",
                type=bool,
                default=False,
                help="Without --ckpt_path: play with the weights that training would start from.",
            )
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the configuration, and compare the classes that it names."""
        with _configuring():
            super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        if not isinstance(config.seed_everything, bool) and config.seed_everything < 0:
            raise ConfigurationError(
                f"seed_everything is {config.seed_everything}: it is at least 0"
            )
        check_batch_types(_class_of(config.model.class_path), _class_of(config.data.class_path))

    def instantiate_classes(self) -> None:
        """Make what the configuration names."""
        with _configuring():
            super().instantiate_classes()

    def _parse_ckpt_path(self) -> None:
        """The configuration says what the module is; a checkpoint that differs is refused."""

    def before_instantiate_classes(self) -> None:
        keep_freed_memory()
        num_threads = self._get(self.config, "num_threads")
        if num_threads is not None:
            if num_threads < 1:
                raise ConfigurationError(f"num_threads is {num_threads}: it is at least 1")
            torch.set_num_threads(num_threads)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give the Trainer the default callbacks that fit, safeguards, and whole checkpoints."""
        check_pair(self.model, self.datamodule)
        config = self._get(self.config_init, "trainer")
        if config.get("barebones") and isinstance(config.get("logger"), MLflowTracker):
            config["logger"] = None  # the default; barebones is without loggers
        for logger in _listed(config.get("logger")):
            if isinstance(logger, MLflowTracker):
                logger.name_experiment(self._experiment_name())
        given = _listed(config.get("callbacks"))
        check_needs(given, self.model, self.datamodule)
        callbacks = [*given, *self._default_callbacks(given), Safeguards()]
        _check_checkpoint_callbacks(callbacks)
        config["callbacks"] = callbacks
        plugins = _listed(config.get("plugins"))
        if not any(isinstance(each, CheckpointIO) for each in plugins):
            config["plugins"] = [*plugins, AtomicCheckpoints()]
        return self._instantiate_trainer({**config, **kwargs}, [])

    def _default_callbacks(self, given: list[Callback]) -> Iterator[Callback]:
        """The defaults that fit module and data, but for those that the YAML lists itself."""
        trainer = self._get(self.config_init, "trainer")
        for key, (kind, _) in DEFAULT_CALLBACKS.items():
            if trainer.get("barebones") and kind not in NECESSARY_CALLBACKS:
                continue
            callback = self._get(self.config_init, key)
            if isinstance(callback, ModelCheckpoint):
                if trainer.get("enable_checkpointing") is False:
                    continue
                if key == "checkpoint" and callback.monitor is None:
                    monitored = getattr(self.model, "monitor", None)
                    # Without validation nothing is logged that could be the best.
                    if monitored is None or trainer.get("limit_val_batches") == 0:
                        continue
                    callback = self._best_checkpoint(*monitored)
                    if any(each.state_key == callback.state_key for each in given):
                        continue  # the configuration lists one of its own in its place
                yield callback
            elif isinstance(callback, ProgressBar):
                unwanted = trainer.get("enable_progress_bar") is False
                if not unwanted and not any(isinstance(each, ProgressBar) for each in given):
                    yield callback
            elif not any(type(each) is type(callback) for each in given) and not self._misfit(
                callback
            ):
                yield callback

    def _experiment_name(self) -> str:
        algorithm = getattr(self.model, "algorithm", type(self.model).__name__)
        task = getattr(self.datamodule, "task", type(self.datamodule).__name__)
        return f"{algorithm}-{task}"

    def _misfit(self, callback: NeedsCallback) -> str | None:
        return callback.misfit(self.model, self.datamodule)

    def _best_checkpoint(self, monitor: str, mode: str) -> ModelCheckpoint:
        settings = self._get(self.config, "checkpoint").as_dict()
        return ModelCheckpoint(**{**settings, "monitor": monitor, "mode": mode})

    def after_instantiate_classes(self) -> None:
        """Find and look into the checkpoint, and go on with its run."""
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cpu":
            use_batch_scheduling()
        check_flags(self.trainer, self.model, fitting=self.subcommand == "fit")
        asked = self._get(self.config, "ckpt_path")
        trackers = [each for each in self.trainer.loggers if isinstance(each, MLflowTracker)]
        if asked == "last" and trackers:
            asked = str(trackers[0].last_checkpoint())
            self.config_init[self.subcommand]["ckpt_path"] = asked
        elif asked == "last":
            raise ConfigurationError(
                "--ckpt_path last is looked for in the runs of the MLflowTracker, and there is "
                "none in trainer.logger: give the checkpoint's path"
            )
        if asked is None:
            if self.subcommand != "fit" and not self._get(self.config, "untrained"):
                raise ConfigurationError(
                    f"{self.subcommand} needs --ckpt_path, a checkpoint or last: without it the "
                    "weights would be untrained; --untrained true asks for that"
                )
            return
        if asked == "hpc":  # what SLURM's requeueing left, which Lightning finds
            return
        check_checkpoint(Path(asked), self.model)
        if self.subcommand == "fit":
            for tracker in trackers:
                tracker.go_on_with(Path(asked))

    def after_fit(self) -> None:
        """End on one line: how good the agent is, and where it and its run are."""
        if not self.trainer.is_global_zero:
            return
        checkpoint = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        score = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        monitor = getattr(self.trainer.checkpoint_callback, "monitor", None)
        what = "Greedy return" if monitor == "val/return" else monitor
        said = [] if score is None else [f"{what} {score:.4g}"]
        if checkpoint:
            said.append(f"checkpoint {os.path.relpath(checkpoint)}")
        said.append(f"run {run_folder(self.trainer)}")
        print(", ".join(said), flush=True)


def _check_checkpoint_callbacks(callbacks: list[Callback]) -> None:
    """Lightning tells the states of two ModelCheckpoints apart by their settings alone."""
    keys = [each.state_key for each in callbacks if isinstance(each, ModelCheckpoint)]
    if len({*keys}) < len(keys):
        raise ConfigurationError(
            "trainer.callbacks lists a ModelCheckpoint with the settings of another one: change "
            "--checkpoint or --last_checkpoint in its place, or give it a monitor of its own"
        )


def _class_of(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _listed(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return [*value] if isinstance(value, list | tuple) else [value]


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    for irrelevant in _IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=irrelevant)
    try:
        _CLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            save_config_callback=TrackConfig,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            parser_class=OneLineParser,
            parser_kwargs={"prog": "python -m rl_lightning"},
            args=args,
        )
    except StoppedError as stopped:
        rank_zero_only(_say)(f"rl_lightning: {stopped}")
        return 128 + stopped.signum
    except Exception as error:
        if is_loss_of_another(error):
            print(f"rl_lightning: error: {_LOST}", file=sys.stderr, flush=True)
            return 1
        said = _error_for_people(error)
        if said is None and raised_by_lightning(error):
            said = error
        if said is None:
            raise
        # Every rank reads the configuration, but once they run together, one alone may fail.
        say = _say if are_many() else rank_zero_only(_say)
        say(f"rl_lightning: error: {one_line(str(said))}")
        return 1 if isinstance(said, RunError) else 2
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _error_for_people(error: BaseException | None) -> BaseException | None:
    """Find the error that is for people: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(
        error, (ConfigurationError, MisconfigurationException, RunError)
    ):
        error = error.__cause__ or error.__context__
    return error
