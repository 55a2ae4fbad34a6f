"""Finds the configurations of this package by name, from any folder."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rl_lightning.runtime.errors import ConfigurationError

_PACKAGE = Path(__file__).parent.parent
# An installed package has a copy of the configurations. A checkout has them at its top.
_FOLDER = next(
    (each for each in (_PACKAGE / "configs", _PACKAGE.parent.parent / "configs") if each.is_dir()),
    _PACKAGE / "configs",
)


def configuration_names() -> list[str]:
    """Names of all configurations of this package, such as "dqn/cartpole"."""
    return sorted(
        str(path.relative_to(_FOLDER).with_suffix("")) for path in _FOLDER.glob("*/*.yaml")
    )


def find_configuration(name: str) -> str:
    """Path of a configuration.

    Args:
        name: A file, which comes first, or a name such as "dqn/cartpole". The name may have the
            folder and the ending of the file, as in "configs/dqn/cartpole.yaml". As in
            jsonargparse, "-" is the standard input, and YAML text is taken as it is.

    Raises:
        ConfigurationError: If there is neither. The message has similar names.
    """
    is_text = name.startswith("{") or "\n" in name
    # A pipe, such as that of the shell's <(…), exists and is no regular file.
    if name == "-" or is_text or (Path(name).exists() and not Path(name).is_dir()):
        return name
    short = name.removeprefix("configs/").removesuffix(".yaml")
    if short in (names := configuration_names()):
        return str(_FOLDER / f"{short}.yaml")
    close = difflib.get_close_matches(short, names, n=3, cutoff=0.6)
    of_folder = [each for each in names if each.startswith(f"{short.partition('/')[0]}/")]
    raise ConfigurationError(
        f"there is no file {name} and no configuration of this name: give a path, or one of the "
        f"names {', '.join(of_folder or close or names)}"
    )


def with_found_configurations(arguments: Sequence[str]) -> Iterator[str]:
    """Replace the value of each `--config` in a command line by its path."""
    is_value = False
    for argument in arguments:
        if is_value:
            yield find_configuration(argument)
        elif argument.startswith("--config="):
            yield f"--config={find_configuration(argument.removeprefix('--config='))}"
        else:
            yield argument
        is_value = argument in ("--config", "-c")
