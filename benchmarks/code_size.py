"""Prints the code lines of a checkout by room, and the ratio of plumbing to algorithm.

    python benchmarks/code_size.py [CHECKOUT ...]

Code lines are lines without blank lines, comments and docstrings. The algorithm is what the papers
describe: the modules, the pure functions, the networks, the search, the rules and planes of the
games, the ring of the replay and its priorities, the collection of experience, and its batches. All
else is plumbing. Files are assigned by their name, so that older checkouts can be compared.
"""

import argparse
import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ALGORITHM = (
    *("modules/", "functional/", "networks/", "optimizers/", "search/"),
    *("games/board_game", "games/go_planes", "games/go_setup", "games/symmetries"),
    *("replay/ring", "replay/frame_ring", "replay/priorities"),
    *("interaction/collector", "datamodules/collector", "experience/batches"),
)
# The base classes of modules declare and check; they hold no algorithm.
PLUMBING = ("modules/learner", "modules/__init__")
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def code_lines(path: Path) -> int:
    """Lines of a file without blank lines, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def is_algorithm(name: str) -> bool:
    """Whether a file of the package, such as "modules/dqn.py", is a part of an algorithm."""
    return name.startswith(ALGORITHM) and not name.startswith(PLUMBING)


def sizes(checkout: Path) -> dict[str, int]:
    """Code lines of each file, by its name in the package."""
    package = checkout / "src" / "rl_lightning"
    found = sorted(package.rglob("*.py"))
    if not found:
        raise SystemExit(f"{package} has no Python files: give the folder of a checkout")
    return {path.relative_to(package).as_posix(): code_lines(path) for path in found}


def report(checkout: Path) -> str:
    """A table of one checkout."""
    by_file = sizes(checkout)
    rooms: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for name, lines in by_file.items():
        room = name.split("/")[0] if "/" in name else "(top)"
        rooms[room] += lines
        files[room] += 1
    total = sum(by_file.values())
    algorithm = sum(lines for name, lines in by_file.items() if is_algorithm(name))
    studies = rooms["studies"]
    plumbing = total - studies - algorithm
    rows = [f"{room:<22}{files[room]:>6}{lines:>8}" for room, lines in rooms.most_common()]
    return "\n".join(
        [
            f"{checkout}",
            f"{'room':<22}{'files':>6}{'lines':>8}",
            *rows,
            f"{'all':<22}{len(by_file):>6}{total:>8}",
            f"without studies: {total - studies}",
            f"algorithm: {algorithm}, plumbing without studies: {plumbing}, "
            f"{plumbing / algorithm:.2f} to 1",
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).parent.parent
    parser.add_argument("checkouts", nargs="*", type=Path, default=[here])
    print("\n\n".join(report(each) for each in parser.parse_args().checkouts))
