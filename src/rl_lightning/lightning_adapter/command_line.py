"""LightningCLI and its parser with one-line errors, made from jsonargparse's messages."""

import difflib
import re
from enum import Enum
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from rl_lightning.runtime.errors import ConfigurationError

# PyYAML cannot write enums, which are the defaults of some classes of Lightning, such as Timer.
yaml.SafeDumper.add_multi_representer(
    Enum, lambda dumper, member: dumper.represent_data(member.value)
)


class ConfiguredCLI(LightningCLI):
    """LightningCLI that takes the module from the configuration alone.

    Lightning's own reads hyperparameters from the checkpoint too, and they replace those of the
    configuration without a message.
    """

    def _parse_ckpt_path(self) -> None:
        """Do not read the checkpoint."""


class OneLineParser(LightningArgumentParser):
    """Raises an error of one line, where argparse would first print pages of usage.

    Args:
        args: Arguments of LightningArgumentParser.
        command: The subcommand whose options this parser has, such as "fit".
        kwargs: Arguments of LightningArgumentParser.
    """

    def __init__(self, *args: Any, command: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)
        self.command = command

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ConfigurationError with the important lines of the message."""
        raise ConfigurationError(shorten(message) + self._suggestion(message)) from ex

    def _suggestion(self, message: str) -> str:
        """The names of this parser that are similar to an unknown one."""
        unknown = re.search(r"(?:Option '|[Uu]nrecognized arguments: --)([\w.]+)", message)
        if unknown is None:
            return ""
        names = [action.dest for action in self._actions if action.dest]
        close = difflib.get_close_matches(unknown[1], names, n=3, cutoff=0.7)
        return f": did you mean {' or '.join(close)}?" if close else ""


def shorten(message: str) -> str:
    """Keep only the lines of a parser's message that name the mistake.

    If a value may be of several types, jsonargparse lists an error for each type and then the
    whole value.
    """
    noise = (
        *("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but"),
        *("1 validation error for", "For further information"),  # of pydantic
    )
    message = re.sub(r"\[type=\w+, input_value=(.+), input_type=\w+\]", r"and not \1", message)
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    if any(re.match("Expected a <class '(bool|int|float|str)'>", line) for line in lines):
        # The type may be a number or an object, and a word that is neither is not meant as a class.
        lines = [line for line in lines if not line.startswith("Expected a dot import path")]
    kept = [
        re.sub(r"^Expected a dot import path string: (.+)", r"there is no class \1", line)
        for line in lines
        if not line.startswith(noise) and line != "Expected a <class 'NoneType'>"
    ]
    short = re.sub(r'Parser key "([^"]+)":', r"\1:", " ".join(dict.fromkeys(kept)))
    short = re.sub(r"Expected a <class '(\w+)'>", r"Expected a value of type \1", short)
    return "a --config file is empty" if short == "Unexpected config:" else short
