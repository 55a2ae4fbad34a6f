"""The command line: LightningCLI with this package's modules, datamodules and callbacks.

An experiment is one YAML file. Every value in it can be overridden by a flag with its path.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from pydoc import locate
from typing import Any, TextIO

import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from rl_lightning import __version__, datamodules, modules
from rl_lightning.callbacks.defaults import DEFAULT_CALLBACKS
from rl_lightning.command_line.class_lists import import_classes, list_classes
from rl_lightning.command_line.configurations import with_found_configurations
from rl_lightning.compatibility.pairs import check_batch_types
from rl_lightning.experience import ServesGtp
from rl_lightning.lightning_adapter.command_line import ConfiguredCLI, OneLineParser, shorten
from rl_lightning.lightning_adapter.errors import is_lost_connection, refuses_settings
from rl_lightning.lightning_adapter.messages import quieten_libraries
from rl_lightning.runtime.checkpoints import load_weights
from rl_lightning.runtime.errors import ConfigurationError, RunError, one_line
from rl_lightning.runtime.launchers import LauncherError
from rl_lightning.runtime.ranks import has_several_ranks
from rl_lightning.runtime.stopping import StoppedError, raise_at_sigint, restored_sigint
from rl_lightning.tracking.asked_checkpoint import find_checkpoint
from rl_lightning.tracking.ending import ending
from rl_lightning.tracking.run_description import RunDescription, describe_run
from rl_lightning.tracking.run_folder import TrackConfig
from rl_lightning.trainer import (
    TRAINER_DEFAULTS,
    complete_flags,
    prepare_process,
    prepare_trainer,
)

_LOGGER = {"class_path": "rl_lightning.tracking.mlflow_tracker.MLflowTracker"}
# Without the name of a class, these flags list the classes.
_LISTED = {"--model.help": modules, "--data.help": datamodules}

_FOR_USERS = (ConfigurationError, MisconfigurationException, RunError)
_LOST_RANK = "another process of this run has ended: see its error message for the reason"


@contextmanager
def _configuring() -> Iterator[None]:
    """Convert errors while the configuration is read to a ConfigurationError."""
    try:
        yield
    except Exception as error:
        if _user_error(error) is not None:
            raise
        what = f"{type(error).__name__}: {shorten(str(error))}"
        raise ConfigurationError(f"the configuration cannot be used: {what}") from error


class CommandLine(ConfiguredCLI):
    """LightningCLI with this package's defaults, checks and callbacks.

    Args:
        command: The command line, which becomes the description of the run.
        args: Arguments of LightningCLI.
        kwargs: Arguments of LightningCLI.
    """

    def __init__(self, *args: Any, command: str, **kwargs: Any) -> None:
        self._command = command
        self._parsers: dict[str, OneLineParser] = {}
        super().__init__(*args, **kwargs)

    @property
    def options(self) -> Any:
        """The configuration of the subcommand."""
        return self.config[self.subcommand]

    def add_arguments_to_parser(self, parser: OneLineParser) -> None:  # type: ignore[override]
        """Add the flags of a subcommand that all experiments share, and their defaults."""
        assert parser.command is not None
        self._parsers[parser.command] = parser
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
            # `add_lightning_class_args` would let Lightning add callbacks that do not fit, too.
            parser.add_class_arguments(callback, key, fail_untyped=False, sub_configs=True)
            parser.set_defaults({f"{key}.{name}": value for name, value in defaults.items()})
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        for shape in ("environment", "image_shape", "num_classes"):
            parser.link_arguments(
                f"data.{shape}", f"model.init_args.{shape}", apply_on="instantiate"
            )
        if parser.command == "fit":
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

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """Read the configuration, and check that the module's and the datamodule's class fit."""
        with _configuring():
            super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        if not isinstance(config.seed_everything, bool) and config.seed_everything < 0:
            raise ConfigurationError(
                f"seed_everything is {config.seed_everything}: make it at least 0"
            )
        # The module is made from the data's shapes, where classes that do not fit would fail. The
        # instances are checked when the run starts: see `compatibility.check`.
        kinds: list[Any] = [locate(each.class_path) for each in (config.model, config.data)]
        check_batch_types(*kinds)

    def instantiate_classes(self) -> None:
        """Make the objects that the configuration defines."""
        with _configuring():
            super().instantiate_classes()

    def before_instantiate_classes(self) -> None:
        """Set threads and memory of this process."""
        prepare_process(self.options.num_threads)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with all that this package adds to Lightning's."""
        objects = self.config_init[self.subcommand]
        made = {key: objects[key] for key in DEFAULT_CALLBACKS}
        completed = complete_flags(
            self.model, self.datamodule, objects.trainer, made, self.describe
        )
        return super().instantiate_trainer(**{**completed, **kwargs})

    def describe(self) -> RunDescription:
        """The names, parameters and tags of a run of this configuration."""
        defaults = self._plain(self._parser_of_subcommand.get_defaults())
        return describe_run(
            self.model, self.datamodule, self._command, self._plain(self.options), defaults
        )

    @property
    def _parser_of_subcommand(self) -> OneLineParser:
        return self._parsers[str(self.subcommand)]

    def _plain(self, config: Any) -> dict[str, Any]:
        """A configuration as in a YAML file."""
        text = self._parser_of_subcommand.dump(config, skip_none=False, skip_validation=True)
        plain: dict[str, Any] = yaml.safe_load(text)
        return plain

    def after_instantiate_classes(self) -> None:
        """Find and check the checkpoint, and continue its run."""
        fitting = self.subcommand == "fit"
        prepare_trainer(self.trainer, self.model, self.datamodule, fitting)
        asked, weights = (self.options.get(key) for key in ("ckpt_path", "weights_path"))
        if weights is not None:
            if asked is not None:
                raise ConfigurationError(
                    f"--weights_path {weights} starts a new run and --ckpt_path {asked} resumes "
                    "one: give one of them"
                )
            rank_zero_info(load_weights(Path(weights), self.model))
        if asked is not None:
            self.config_init[self.subcommand]["ckpt_path"] = find_checkpoint(
                asked, self.trainer, self.model, self._plain(self.options), fitting
            )
        elif not fitting and not self.options.untrained:
            raise ConfigurationError(
                f"{self.subcommand} needs a checkpoint, because without one the weights are "
                "untrained: give --ckpt_path, or --untrained true if you want that"
            )
        raise_at_sigint(f"SIGINT stopped {self.subcommand}")

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


def main(args: list[str] | None = None, cli: Callable[..., CommandLine] = CommandLine) -> int:
    """Run the command line; returns its exit status.

    Args:
        args: The arguments. The default is those of this process.
        cli: The class that reads and runs them.
    """
    quieten_libraries()
    given = sys.argv[1:] if args is None else args
    if given and given[-1] in _LISTED:
        print(list_classes(given[-1], _LISTED[given[-1]]))
        return 0
    if given[:1] == ["gtp"]:
        cli = partial(_GtpCLI, sys.stdout)
        with redirect_stdout(sys.stderr):  # only the answers are on the standard output
            flags = "--trainer.limit_predict_batches 0 --trainer.enable_progress_bar false"
            return main(["predict", *given[1:], *flags.split()], cli)
    for package in _LISTED.values():
        import_classes(package)
    try:
        with restored_sigint():
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
                    **{name: {"command": name} for name in CommandLine.subcommands()},
                },
                args=[*with_found_configurations(given)],
                command=shlex.join(["python", "-m", "rl_lightning", *given]),
            )
    except StoppedError as stopped:
        rank_zero_only(_print_error)(f"rl_lightning: {stopped}")
        return 128 + stopped.signum
    except Exception as error:
        if has_several_ranks() and is_lost_connection(error):
            _print_error(f"rl_lightning: error: {_LOST_RANK}")
            return 1
        shown = _user_error(error) or (error if refuses_settings(error) else None)
        if shown is None:
            raise
        # All ranks have the same errors in the configuration, so rank 0 prints them. After the
        # process group has started, a single rank may fail, so each rank prints its error.
        each_rank = has_several_ranks() or isinstance(shown, LauncherError)
        show = _print_error if each_rank else rank_zero_only(_print_error)
        show(f"rl_lightning: error: {one_line(shown)}")
        return 1 if isinstance(shown, RunError) else 2
    return 0


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _user_error(error: BaseException | None) -> BaseException | None:
    """Find an error with a message for the user in the chain of causes.

    jsonargparse wraps the errors that constructors raise.
    """
    while error is not None and not isinstance(error, _FOR_USERS):
        error = error.__cause__ or error.__context__
    return error
