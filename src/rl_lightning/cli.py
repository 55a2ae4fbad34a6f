"""The command line: LightningCLI with this package's modules, datamodules and callbacks.

An experiment is one YAML file. Every value in it can be overridden by a flag with its path.
"""

import importlib
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

# The YAML files use short class names, which are only found for imported classes.
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
from rl_lightning.runtime.parser import OneLineParser, shorten
from rl_lightning.runtime.ranks import has_several_ranks, is_lost_rank, use_batch_scheduling
from rl_lightning.runtime.trainer_flags import check_flags, raised_by_lightning
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.run_description import RunDescription, describe_run
from rl_lightning.tracking.run_folder import TrackConfig, run_folder

_IRRELEVANT_WARNINGS = (
    # Datasets need a length, so that Lightning does not prefetch. There are no workers, for which
    # Lightning warns here.
    r"Your `IterableDataset` has `__len__` defined",
    # Each worker would be a separate process with its own environments, so there are none.
    r"The '\w+_dataloader' does not have many workers",
    # `predict` yields recorded episodes, which are not items of a data set with indices.
    r"Couldn't infer the batch indices",
    # A resumed run writes to the folder that it had before. A run that starts from a checkpoint of
    # another folder has a new one.
    r"The dirpath has changed from",
    r"Checkpoint directory .* exists and is not empty",
    # Gymnasium prints tracebacks of environment copies in other processes. The error line of this
    # package has the same information.
    r"\x1b\[31mERROR: (Received the following error|Traceback|Raising the last exception)",
    # Lightning uses a function that torch has deprecated.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)

# Defaults that all experiments share; see --print_config.
TRAINER_DEFAULTS = {
    "trainer.accelerator": "cpu",
    "trainer.num_sanity_val_steps": 0,
    "trainer.enable_model_summary": False,
    "trainer.default_root_dir": "runs",
    "trainer.logger": {"class_path": "rl_lightning.tracking.mlflow_tracker.MLflowTracker"},
}
# Each of these is added to the Trainer's callbacks if it fits the module and the datamodule.
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
        # By default Lightning writes no checkpoint if an epoch ends without a validation.
        {"filename": "last", "enable_version_counter": False, "save_on_train_epoch_end": True},
    ),
    "progress_bar": (TQDMProgressBar, {"refresh_rate": 25}),  # each refresh costs time
}

# Some algorithms cannot train without these, so they are added with trainer.barebones too.
NECESSARY_CALLBACKS = (TargetNetwork, RenewPriorities)

_LOST_RANK = "another process of this run has ended: see its error message for the reason"


@contextmanager
def _configuring() -> Iterator[None]:
    """Convert errors while the configuration is read to a ConfigurationError."""
    try:
        yield
    except Exception as error:
        if _user_error(error) is not None:
            raise
        raise ConfigurationError(
            f"the configuration cannot be used: {type(error).__name__}: {shorten(str(error))}"
        ) from error


class _CLI(LightningCLI):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = kwargs.get("args")
        super().__init__(*args, **kwargs)

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
                help="Allow a run without --ckpt_path, with the initial weights of training.",
            )
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the configuration, and check that the module's and the datamodule's class fit."""
        with _configuring():
            super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        if not isinstance(config.seed_everything, bool) and config.seed_everything < 0:
            raise ConfigurationError(
                f"seed_everything is {config.seed_everything}: make it at least 0"
            )
        check_batch_types(_class_of(config.model.class_path), _class_of(config.data.class_path))

    def instantiate_classes(self) -> None:
        """Make the objects that the configuration defines."""
        with _configuring():
            super().instantiate_classes()

    def _parse_ckpt_path(self) -> None:
        """Do not read hyperparameters from the checkpoint, as Lightning would.

        The configuration defines the module, and a checkpoint that does not fit it is refused.
        """

    def before_instantiate_classes(self) -> None:
        keep_freed_memory()
        num_threads = self._get(self.config, "num_threads")
        if num_threads is not None:
            if num_threads < 1:
                raise ConfigurationError(f"num_threads is {num_threads}: make it at least 1")
            torch.set_num_threads(num_threads)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with fitting default callbacks, Safeguards and AtomicCheckpoints."""
        check_pair(self.model, self.datamodule)
        config = self._get(self.config_init, "trainer")
        if config.get("barebones") and isinstance(config.get("logger"), MLflowTracker):
            config["logger"] = None  # the default logger, which barebones does not allow
        for logger in _listed(config.get("logger")):
            if isinstance(logger, MLflowTracker):
                logger.describe(self._description())
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
        """The default callbacks that fit module and datamodule and are not in the YAML file."""
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
                    # Without validation there is no metric that defines the best checkpoint.
                    if monitored is None or trainer.get("limit_val_batches") == 0:
                        continue
                    callback = self._best_checkpoint(*monitored)
                    if any(each.state_key == callback.state_key for each in given):
                        continue  # trainer.callbacks has an equal one already
                yield callback
            elif isinstance(callback, ProgressBar):
                unwanted = trainer.get("enable_progress_bar") is False
                if not unwanted and not any(isinstance(each, ProgressBar) for each in given):
                    yield callback
            elif not any(type(each) is type(callback) for each in given) and not self._misfit(
                callback
            ):
                yield callback

    def _description(self) -> RunDescription:
        assert self.subcommand is not None
        parser = self._subcommand_parsers[self.subcommand]
        config, defaults = (
            yaml.safe_load(parser.dump(each, skip_none=False, skip_validation=True))
            for each in (self.config[self.subcommand], parser.get_defaults())
        )
        return describe_run(
            getattr(self.model, "algorithm", type(self.model).__name__),
            getattr(self.datamodule, "task", type(self.datamodule).__name__),
            shlex.join(["python", "-m", "rl_lightning", *(self._args or sys.argv[1:])]),
            config,
            defaults,
        )

    def _misfit(self, callback: NeedsCallback) -> str | None:
        return callback.misfit(self.model, self.datamodule)

    def _best_checkpoint(self, monitor: str, mode: str) -> ModelCheckpoint:
        settings = self._get(self.config, "checkpoint").as_dict()
        return ModelCheckpoint(**{**settings, "monitor": monitor, "mode": mode})

    def after_instantiate_classes(self) -> None:
        """Find and check the checkpoint, and continue its run."""
        if self.trainer.world_size > 1 and self.trainer.strategy.root_device.type == "cpu":
            use_batch_scheduling()
        check_flags(self.trainer, self.model, fitting=self.subcommand == "fit")
        asked = self._get(self.config, "ckpt_path")
        trackers = [each for each in self.trainer.loggers if isinstance(each, MLflowTracker)]
        if asked in ("last", "best") and trackers:
            asked = str(trackers[0].checkpoint(asked))
            self.config_init[self.subcommand]["ckpt_path"] = asked
        elif asked in ("last", "best"):
            raise ConfigurationError(
                f"--ckpt_path {asked} needs an MLflowTracker in trainer.logger to find the run, "
                "and there is none: give the checkpoint's path"
            )
        if asked is None:
            if self.subcommand != "fit" and not self._get(self.config, "untrained"):
                raise ConfigurationError(
                    f"{self.subcommand} needs a checkpoint, because without one the weights are "
                    "untrained: give --ckpt_path, or --untrained true if you want that"
                )
            return
        if asked == "hpc":  # Lightning finds the checkpoint that it wrote before a SLURM requeue
            return
        check_checkpoint(Path(asked), self.model)
        for tracker in trackers:
            tracker.go_on_with(Path(asked), evaluates=self.subcommand != "fit")

    def after_fit(self) -> None:
        """Print one line with the score, the best checkpoint and the folder of the run."""
        if not self.trainer.is_global_zero:
            return
        checkpoint = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        score = getattr(self.trainer.checkpoint_callback, "best_model_score", None)
        monitor = getattr(self.trainer.checkpoint_callback, "monitor", None)
        what = "Greedy return" if monitor == "val/return" else monitor
        parts = [] if score is None else [f"{what} {score:.4g}"]
        if checkpoint:
            parts.append(f"checkpoint {os.path.relpath(checkpoint)}")
        parts.append(f"run {run_folder(self.trainer)}")
        print(", ".join(parts), flush=True)


def _check_checkpoint_callbacks(callbacks: list[Callback]) -> None:
    """Check that no two ModelCheckpoints have equal settings.

    Lightning finds their states in a checkpoint by their settings.

    Raises:
        ConfigurationError: If two have equal settings.
    """
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
        rank_zero_only(_print_error)(f"rl_lightning: {stopped}")
        return 128 + stopped.signum
    except Exception as error:
        if is_lost_rank(error):
            _print_error(f"rl_lightning: error: {_LOST_RANK}")
            return 1
        shown = _user_error(error)
        if shown is None and raised_by_lightning(error):
            shown = error
        if shown is None:
            raise
        # All ranks have the same errors in the configuration, so rank 0 prints them. After the
        # process group has started, a single rank may fail, so each rank prints its error.
        show = _print_error if has_several_ranks() else rank_zero_only(_print_error)
        show(f"rl_lightning: error: {one_line(str(shown))}")
        return 1 if isinstance(shown, RunError) else 2
    return 0


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _user_error(error: BaseException | None) -> BaseException | None:
    """Find an error with a message for the user in the chain of causes.

    jsonargparse wraps the errors that constructors raise.
    """
    while error is not None and not isinstance(
        error, (ConfigurationError, MisconfigurationException, RunError)
    ):
        error = error.__cause__ or error.__context__
    return error
