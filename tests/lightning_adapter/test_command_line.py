"""One-line errors from jsonargparse's messages, and a LightningCLI that reads no checkpoint."""

from typing import Annotated

import pytest
import torch
import yaml
from annotated_types import Le
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.cli import LightningCLI

from rl_lightning.lightning_adapter.command_line import ConfiguredCLI, OneLineParser
from rl_lightning.runtime.errors import ConfigurationError
from small_module import SmallModule


class Sized(SmallModule):
    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.size = size


@pytest.mark.parametrize(("base", "size"), [(LightningCLI, 3), (ConfiguredCLI, 2)])
def test_the_module_is_that_of_the_configuration(base, size, tmp_path):
    class Validates(base):
        def validate(self, **_):
            """Validate nothing."""

    path = tmp_path / "other.ckpt"
    torch.save({"hyper_parameters": {"size": 3}, "state_dict": {}}, path)
    arguments = ["validate", "--model.size", "2", "--ckpt_path", str(path)]
    cli = Validates(Sized, args=arguments, save_config_callback=None)
    assert cli.model.size == size


Share = Annotated[float, Le(1)]


class Options:
    def __init__(self, number: int = 1, share: Share | None = None, hidden: str = "a") -> None: ...


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--options.number x", "options.number: Expected a value of type int"),
        ("--options.share x", "options.share: Input should be a valid number"),
        (
            "--options.share 3",
            "options.share: Input should be less than or equal to 1 and not '3'",
        ),
        ("--options.hiden b", "did you mean options.hidden"),
        ("--timer Nothing", "there is no class Nothing"),
        ("--config empty.yaml", "a --config file is empty"),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, working_folder):
    (working_folder / "empty.yaml").touch()
    parser = OneLineParser(exit_on_error=True)
    parser.add_class_arguments(Options, "options")
    parser.add_subclass_arguments(Timer, "timer", required=False)
    parser.add_argument("--config", action="config")
    with pytest.raises(ConfigurationError, match=expected) as refused:
        parser.parse_args(arguments.split())
    assert "\n" not in str(refused.value)


def test_a_default_that_is_an_enum_is_written_as_its_value():
    parser = OneLineParser()
    parser.add_class_arguments(Timer, "timer")
    printed = parser.dump(parser.get_defaults(), skip_none=False, skip_validation=True)
    assert yaml.safe_load(printed)["timer"]["interval"] == "step"


def test_a_parser_knows_its_subcommand():
    assert OneLineParser(command="fit").command == "fit"
