"""Arguments of one command that another command has too."""

import argparse
from collections.abc import Sequence


def arguments_of_test(arguments: Sequence[str]) -> list[str]:
    """The arguments of `fit` without its checkpoint, and without those that `test` has not."""
    left_out = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    left_out.add_argument("--ckpt_path")
    left_out.add_argument("--weights_path")
    return left_out.parse_known_args(arguments)[1]
