"""The command line's parser, which says in one line what is wrong."""

import re
from enum import Enum
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from rl_lightning.runtime.errors import ConfigurationError

# Some classes of Lightning, such as Timer, have defaults that PyYAML cannot write otherwise.
yaml.SafeDumper.add_multi_representer(
    Enum, lambda dumper, member: dumper.represent_data(member.value)
)


class OneLineParser(LightningArgumentParser):
    """Raises one line where argparse would print pages of usage first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a ConfigurationError with the essence of the message."""
        raise ConfigurationError(essence(message)) from ex


def essence(message: str) -> str:
    """The lines of a parser's message that name the mistake.

    Where a value may be of several types, jsonargparse lists the complaint of each and
    then the whole value.
    """
    noise = ("Does not validate", "Subtypes:", "Errors:", "Given value", "Expected a path but")
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [
        re.sub(r"^Expected a dot import path string: (.+)", r"there is no class \1", line)
        for line in lines
        if not line.startswith(noise) and line != "Expected a <class 'NoneType'>"
    ]
    said = re.sub(r'Parser key "([^"]+)":', r"\1:", " ".join(dict.fromkeys(kept)))
    return "a --config file is empty" if said == "Unexpected config:" else said
