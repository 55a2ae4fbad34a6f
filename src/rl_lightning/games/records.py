"""Records of games of Go in SGF files."""

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.go_planes import GoPositions
from rl_lightning.runtime.errors import ConfigurationError, import_extra


class Record(NamedTuple):
    """One game of Go, from the empty board."""

    moves: tuple[int, ...]  # actions of `BoardGame`, Black first
    outcome: float  # for Black: +1 for a win, -1 for a loss, 0 for a draw


class ExpertPositions(NamedTuple):
    """Positions of games, with the move that the expert chose."""

    positions: GoPositions  # D positions
    actions: npt.NDArray[np.int64]  # [D]
    outcomes: npt.NDArray[np.float32]  # [D]: result of the game for the player to move


def read_records(path: Path, board_size: int) -> tuple[list[Record], Counter[str]]:
    """Read the games of a folder, of a tar archive or of one file; equal games are read once.

    The result is the file's property `RE`. The score of the last position would be wrong for games
    that end with dead stones on the board.

    Args:
        path: A folder, which is searched for `*.sgf`, a tar archive, or an SGF file.
        board_size: Games on other boards are left out.

    Returns:
        Games in the order of their file names, and the number of files left out by reason.

    Raises:
        ConfigurationError: If there is no file, or no game that can be used.
    """
    import_extra("sgfmill", "SGF files need sgfmill", "go")
    records: dict[tuple[int, ...], Record] = {}
    skipped: Counter[str] = Counter()
    for content in _contents(path):
        record = parse_record(content, board_size)
        if isinstance(record, str):
            skipped[record] += 1
        elif record.moves in records:
            skipped["equal to another game"] += 1
        else:
            records[record.moves] = record
    if not records:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise ConfigurationError(
            f"{path} has no game of Go on {board_size}x{board_size} that can be used "
            f"({reasons or 'it has no .sgf file'}): set path to a folder or a tar archive of SGF "
            "files"
        )
    return [*records.values()], skipped


def _contents(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        for file in sorted(path.rglob("*.sgf")):
            yield file.read_bytes()
        return
    if not path.is_file():
        raise ConfigurationError(
            f"there is no {path}: set path to a folder or a tar archive of SGF files"
        )
    if not tarfile.is_tarfile(path):
        yield path.read_bytes()
        return
    with tarfile.open(path) as archive:
        contents = {}
        for member in archive:
            opened = archive.extractfile(member) if member.name.endswith(".sgf") else None
            if opened is not None:
                contents[member.name] = opened.read()
    for name in sorted(contents):
        yield contents[name]


class SgfGame(NamedTuple):
    """One game of Go of an SGF file, in which a colour may move twice in a row."""

    handicap: tuple[int, ...]  # Black's stones at the start
    moves: tuple[tuple[int, int], ...]  # player and action
    komi: float
    outcome: float | None  # for Black: +1 for a win, -1 for a loss, 0 for a draw; None is unknown


def read_game(content: bytes, board_size: int) -> SgfGame | str:
    """Read one game of an SGF file, whatever its result.

    Returns:
        The game, or the reason for which it cannot be read.
    """
    sgf = import_extra("sgfmill.sgf", "SGF files need sgfmill", "go")
    try:
        parsed = sgf.Sgf_game.from_bytes(content)
        if parsed.get_size() != board_size:
            return "on another board"
        root, nodes = parsed.get_root(), parsed.get_main_sequence()
        black, *others = root.get_setup_stones()
        if any(others) or any(node.has_setup_stones() for node in nodes[1:]):
            return "with set-up stones that are no handicap"
        moves = [node.get_move() for node in nodes]
        result = root.get("RE").lower() if root.has_property("RE") else ""
        is_draw = result in ("0", "draw", "jigo")
        outcome = {"b": 1.0, "w": -1.0, None: 0.0 if is_draw else None}[parsed.get_winner()]
        komi = float(parsed.get_komi())
    except (ValueError, KeyError):
        return "not in the format of SGF"
    pass_ = board_size**2
    return SgfGame(
        tuple(row * board_size + column for row, column in sorted(black)),
        tuple(
            ("bw".index(colour), pass_ if at is None else at[0] * board_size + at[1])
            for colour, at in moves
            if colour is not None
        ),
        komi,
        outcome,
    )


def parse_record(content: bytes, board_size: int) -> Record | str:
    """Read one game of an SGF file, which a policy and a value can learn from.

    Returns:
        The game, or the reason for which it is left out.
    """
    game = read_game(content, board_size)
    if isinstance(game, str):
        return game
    if game.handicap:
        return "with handicap"
    if any(player != number % 2 for number, (player, _) in enumerate(game.moves)):
        return "in which the players do not take turns"
    if game.outcome is None:
        return "without a result"
    if not game.moves:
        return "without moves"
    return Record(tuple(action for _, action in game.moves), game.outcome)


def replay(game: BoardGame, records: Sequence[Record], with_passes: bool) -> list[ExpertPositions]:
    """Play recorded games with the rules of OpenSpiel.

    A record is read up to the first move that OpenSpiel forbids or that follows the game's end,
    such as a move after a repeated position.

    Args:
        game: Go.
        records: Games on its board.
        with_passes: Whether positions in which the expert passed are kept.

    Returns:
        The positions of each game.
    """
    return [_replay_one(game, record, with_passes) for record in records]


def _replay_one(game: BoardGame, record: Record, with_passes: bool) -> ExpertPositions:
    state, states, actions = game.start(), list[State](), list[int]()
    for move in record.moves:
        if state.is_terminal() or not state.legal_actions_mask()[move]:
            break
        if with_passes or move != game.num_points:
            states.append(state.clone())
            actions.append(move)
        game.play(state, move)
    positions = game.pack(states)
    signs = np.where(positions.black, 1, -1)
    return ExpertPositions(
        positions, np.array(actions, np.int64), (signs * record.outcome).astype(np.float32)
    )


def join_positions(games: Sequence[ExpertPositions]) -> ExpertPositions:
    """Join the positions of several games."""
    packed = zip(*(each.positions for each in games), strict=True)
    return ExpertPositions(
        GoPositions(*(np.concatenate(column) for column in packed)),
        np.concatenate([each.actions for each in games]),
        np.concatenate([each.outcomes for each in games]),
    )
