"""The command line: LightningCLI with this package's modules, datamodules and callbacks.

An experiment is one YAML file. Every value in it can be overridden by a flag with its path.
"""

import importlib
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

# The YAML files use short class names, which are only found for imported classes.
from rl_lightning import __version__, datamodules, modules
from rl_lightning.callbacks.defaults import DEFAULT_CALLBACKS
from rl_lightning.callbacks.safeguards import StoppedError
from rl_lightning.command_line.configurations import with_found_configurations
from rl_lightning.command_line.log_lines import quieten_libraries
from rl_lightning.command_line.parser import OneLineParser, list_classes, shorten
from rl_lightning.compatibility.pairs import check_batch_types
from rl_lightning.compatibility.trainer_flags import check_flags, raised_by_lightning
from rl_lightning.experience import ServesGtp
from rl_lightning.runtime.checkpoints import check_checkpoint, load_weights
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line
from rl_lightning.runtime.ranks import has_several_ranks, is_lost_rank
from rl_lightning.tracking.ending import ending
from rl_lightning.tracking.mlflow_tracker import MLflowTracker
from rl_lightning.tracking.run_description import RunDescription, describe_run
from rl_lightning.tracking.run_folder import TrackConfig
from rl_lightning.trainer import (
    TRAINER_DEFAULTS,
    complete_flags,
    prepare_process,
    prepare_ranks,
)

_IRRELEVANT_WARNINGS = (
    # The command line is read before Lightning reads it, to find configurations by name.
    r"LightningCLI's args parameter is intended to run from within Python",
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
    # Metrics are logged at every `log_every_n_steps`-th update, across epochs.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Lightning uses a function that torch has deprecated.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)

_LOGGER = {"class_path": "rl_lightning.tracking.mlflow_tracker.MLflowTracker"}
# Without the name of a class, these flags list the classes.
_LISTED = {"--model.help": modules, "--data.help": datamodules}

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


class CommandLine(LightningCLI):
    """LightningCLI with this package's defaults, checks and callbacks.

    Args:
        command: The command line, which becomes the description of the run.
        args: Arguments of LightningCLI.
        kwargs: Arguments of LightningCLI.
    """

    def __init__(self, *args: Any, command: str, **kwargs: Any) -> None:
        self._command = command
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the flags that all experiments share, and their defaults."""
        parser.add_argument(
            "--num_threads",
            type=int | None,
            default=1,
            help="Threads of torch on the CPU; null leaves torch's default. One is fastest for "
            "small networks.",
        )
        parser.set_defaults({f"trainer.{flag}": value for flag, value in TRAINER_DEFAULTS.items()})
        parser.set_defaults({"trainer.logger": _LOGGER})
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
        if subcommand == "fit":
            parser.add_argument(
                "--weights_path",
                type=str | None,
                default=None,
                help="Checkpoint whose weights a new run starts from. Optimizer, counters and "
                "random numbers are new; --ckpt_path resumes a run instead.",
            )
        else:
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
        """Set threads and memory of this process."""
        prepare_process(self._get(self.config, "num_threads"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with all that this package adds to Lightning's."""
        flags = self._get(self.config_init, "trainer")
        made = {key: self._get(self.config_init, key) for key in DEFAULT_CALLBACKS}
        best = self._get(self.config, "checkpoint").as_dict()
        completed = complete_flags(self.model, self.datamodule, flags, made, best, self.describe)
        return self._instantiate_trainer({**completed, **kwargs}, [])

    def describe(self) -> RunDescription:
        """The names, parameters and tags of a run of this configuration."""
        assert self.subcommand is not None
        parser = self._subcommand_parsers[self.subcommand]
        config, defaults = (
            yaml.safe_load(parser.dump(each, skip_none=False, skip_validation=True))
            for each in (self.config[self.subcommand], parser.get_defaults())
        )
        return describe_run(
            getattr(self.model, "algorithm", type(self.model).__name__),
            getattr(self.datamodule, "task", type(self.datamodule).__name__),
            self._command,
            config,
            defaults,
        )

    def after_instantiate_classes(self) -> None:
        """Find and check the checkpoint, and continue its run."""
        prepare_ranks(self.trainer)
        check_flags(self.trainer, self.model, fitting=self.subcommand == "fit")
        asked = self._get(self.config, "ckpt_path")
        weights = self._get(self.config, "weights_path", default=None)
        if weights is not None:
            if asked is not None:
                raise ConfigurationError(
                    f"--weights_path {weights} starts a new run and --ckpt_path {asked} resumes "
                    "one: give one of them"
                )
            rank_zero_info(load_weights(Path(weights), self.model))
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
        """Print what was reached, where it is, and which command comes next."""
        if self.trainer.is_global_zero:
            print("\n".join(ending(self.trainer, self._command)), flush=True)


class _GtpCLI(CommandLine):
    """`predict` without a game of its own, and a session of the Go Text Protocol after it.

    `predict` restores the checkpoint.
    """

    def __init__(self, answers: TextIO, *args: Any, **kwargs: Any) -> None:
        self._answers = answers
        super().__init__(*args, **kwargs)

    def before_predict(self) -> None:
        if not isinstance(self.datamodule, ServesGtp):
            raise ConfigurationError(
                "gtp needs a datamodule that plays board games, and "
                f"{type(self.datamodule).__name__} does not: use a configuration such as "
                "alphago/self_play"
            )
        self._serve = self.datamodule.gtp_session(sys.stdin, self._answers)

    def after_predict(self) -> None:
        self.model.to(self.trainer.strategy.root_device)
        self._serve()


def _class_of(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def main(args: list[str] | None = None, cli: Callable[..., CommandLine] = CommandLine) -> int:
    """Run the command line; returns its exit status.

    Args:
        args: The arguments. The default is those of this process.
        cli: The class that reads and runs them.
    """
    for irrelevant in _IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=irrelevant)
    quieten_libraries()
    given = sys.argv[1:] if args is None else args
    if given and given[-1] in _LISTED:
        print(list_classes(given[-1], _LISTED[given[-1]]))
        return 0
    if given[:1] == ["gtp"]:
        cli = partial(_GtpCLI, sys.stdout)
        with redirect_stdout(sys.stderr):  # only the answers are on the standard output
            quiet = [
                "--trainer.limit_predict_batches",
                "0",
                "--trainer.enable_progress_bar",
                "false",
            ]
            return main(["predict", *given[1:], *quiet], cli)
    try:
        cli(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=1,
            save_config_callback=TrackConfig,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            parser_class=OneLineParser,
            parser_kwargs={
                "prog": "python -m rl_lightning",
                "version": __version__,
            },
            args=[*with_found_configurations(given)],
            command=shlex.join(["python", "-m", "rl_lightning", *given]),
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
