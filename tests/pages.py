"""The texts of README and docs, and the files and commands in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = {
    path.name: path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
# Pages whose commands need the files on them.
OWN_FILES = ("own_algorithm.md", "own_environment.md")


def files_of(page: str) -> dict[str, str]:
    """The files of a page by name: fenced blocks whose first line names one."""
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def commands_of(page: str) -> list[list[str]]:
    """The arguments of each command of a page."""
    joined = page.replace("\\\n", " ")
    lines = re.findall(r"^    (?:python -m )?rl_lightning (.*)$", joined, re.MULTILINE)
    inline = re.findall(r"`(fit --config configs/\S+)`", page)
    return [shlex.split(line, comments=True) for line in [*lines, *inline]]


def all_commands() -> dict[str, str]:
    """The commands of all pages but those in `OWN_FILES`, in the order of the pages, each once.

    Commands that stand for many, such as `fit --config <yaml>`, are left out.
    """
    return {
        shlex.join(command): name
        for name, page in PAGES.items()
        if name not in OWN_FILES
        for command in commands_of(page)
        if "…" not in command and not any("<yaml>" in argument for argument in command)
    }
