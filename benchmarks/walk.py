"""The way of one update through the files of this package, from the environment step to the loss.

    python benchmarks/walk.py --config dqn/cartpole
    python benchmarks/walk.py --config a2c/pong -- --data.num_envs 2

Runs `fit` with the real configuration and prints, for one update in the middle, the files in the
order in which a call first enters them, and each call from a file into a file on a higher floor.
Floors are those of `setup.cfg`. Arguments after `--` go to `fit`.
"""

import argparse
import configparser
import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import rl_lightning

PACKAGE = Path(rl_lightning.__file__).parent


def floors() -> dict[str, int]:
    """The number of each folder's floor, the highest first in `setup.cfg`."""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent.parent / "setup.cfg")
    lines = config["importlinter:contract:floors"]["layers"].split("\n")
    names = [line.split("|") for line in lines if line.strip().startswith("rl_lightning")]
    return {
        name.strip().removeprefix("rl_lightning."): len(names) - number
        for number, line in enumerate(names)
        for name in line
    }


class Walk:
    """Follows the calls between files in update number `update`."""

    def __init__(self, update: int) -> None:
        self.update = update
        self.seen = 0
        self.calls: Counter[tuple[str, str]] = Counter()
        self.begun = self.ended = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_name
        if event == "call" and name == "next_batch" and not self.begun:
            self.seen += 1
            self.begun = self.seen == self.update
        if not self.begun or self.ended:
            return
        if event == "return" and name == "training_step":
            self.ended = True
        room, caller = self.room(frame), frame.f_back
        while caller is not None and self.room(caller) is None:
            caller = caller.f_back
        if event == "call" and room is not None and caller is not None:
            before = self.room(caller)
            assert before is not None
            if before != room and "/" in room:
                self.calls[before, room] += 1

    @staticmethod
    def room(frame: FrameType) -> str | None:
        path = frame.f_code.co_filename
        return path.removeprefix(f"{PACKAGE}/") if path.startswith(f"{PACKAGE}/") else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--update", type=int, default=3, help="number of the update")
    parser.add_argument("given", nargs="*")
    arguments = parser.parse_args()
    walk = Walk(arguments.update)
    flags = ["--trainer.max_steps", f"{arguments.update}", "--trainer.logger", "false"]
    flags += ["--trainer.callbacks", "null", "--trainer.enable_checkpointing", "false"]
    flags += ["--trainer.limit_val_batches", "0"]
    from rl_lightning import cli

    sys.setprofile(walk)
    with open(os.devnull, "w") as nowhere:
        shown, sys.stdout = sys.stdout, nowhere
        cli.main(["fit", "--config", arguments.config, *flags, *arguments.given])
        sys.stdout = shown
    sys.setprofile(None)
    floor = floors()

    def height(room: str) -> int:
        return floor[room.split("/")[0].removesuffix(".py")]

    rooms = [*dict.fromkeys(callee for _, callee in walk.calls)]
    upward = {pair: n for pair, n in walk.calls.items() if height(pair[1]) > height(pair[0])}
    for room in rooms:
        print(f"floor {height(room):>2}  {room}")
    print(f"{len(rooms)} files, {walk.calls.total()} calls between files")
    for (caller, callee), number in upward.items():
        print(f"up: {caller} -> {callee}, {number} calls")


if __name__ == "__main__":
    main()
