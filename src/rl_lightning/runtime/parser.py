"""The parser of the command line, with one-line errors."""

import re
from enum import Enum
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from rl_lightning.runtime.errors import ConfigurationError

# PyYAML cannot write enums, which are the defaults of some classes of Lightning, such as Timer.
yaml.SafeDumper.add_multi_representer(
    Enum, lambda dumper, member: dumper.represent_data(member.value)
)


class OneLineParser(LightningArgumentParser):
    """Raises an error of one line, where argparse would first print pages of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ConfigurationError with the important lines of the message."""
        raise ConfigurationError(shorten(message)) from ex


def shorten(message: str) -> str:
    """Keep only the lines of a parser's message that name the mistake.

    If a value may be of several types, jsonargparse lists an error for each type and then the
    whole value.
    """
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but")
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [
        re.sub(r"^Expected a dot import path string: (.+)", r"there is no class \1", line)
        for line in lines
        if not line.startswith(noise) and line != "Expected a <class 'NoneType'>"
    ]
    short = re.sub(r'Parser key "([^"]+)":', r"\1:", " ".join(dict.fromkeys(kept)))
    return "a --config file is empty" if short == "Unexpected config:" else short
