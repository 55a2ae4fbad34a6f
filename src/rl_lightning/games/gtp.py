"""An engine of the Go Text Protocol, version 2, which Go front ends play against.

Source: Farnebäck 2002, "Specification of the Go Text Protocol, version 2, draft 2".
"""

import io
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

import numpy as np

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.go_setup import set_up
from rl_lightning.games.matches import RESIGN, Player
from rl_lightning.games.records import read_game
from rl_lightning.runtime.errors import ConfigurationError, one_line

COLUMNS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"  # without I
# What GoGui offers in its window of analyses: type, label and command.
ANALYSES = ("string/Final Score/final_score", "plist/Legal Moves/all_legal %c")
# A komi with more points than this is an error of the front end.
LARGEST_KOMI = 1000


class GtpError(Exception):
    """A command fails; the message is the answer."""


def vertex_of(game: BoardGame, action: int) -> str:
    """The name of an action, such as "E5" or "PASS"."""
    if action == game.num_points:
        return "PASS"
    row, column = divmod(action, game.board_shape[1])
    return f"{COLUMNS[column]}{row + 1}"


def action_of(game: BoardGame, vertex: str) -> int:
    """The action for the name of a vertex.

    Raises:
        GtpError: If there is no such vertex.
    """
    if vertex.lower() == "pass":
        return game.num_points
    height, width = game.board_shape
    found = re.fullmatch(r"([A-HJ-Z])([0-9]{1,2})", vertex, re.IGNORECASE)
    if found is not None:
        row, column = int(found[2]) - 1, COLUMNS.index(found[1].upper())
        if 0 <= row < height and column < width:
            return row * width + column
    raise GtpError("invalid vertex")


class GtpEngine:
    """Answers commands for one game at a time.

    A colour may move twice in a row, and after two passes a game goes on, as the protocol wants.
    OpenSpiel's states do not allow this, so the position is then set up anew from its stones, with
    a stone of the other colour as the last move if there is one. `undo` takes back the last move.

    Args:
        game: Go. Another komi is accepted, another size of the board is not.
        player: Chooses the moves.
        version: Version of this program.
    """

    def __init__(self, game: BoardGame, player: Player, version: str) -> None:
        if not game.is_go:
            raise ConfigurationError(
                f"the Go Text Protocol is for Go, and the game is {game.name}: use a configuration "
                "of Go"
            )
        self.game = game
        self.player = player
        self.has_quit = False
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "protocol_version": lambda _: "2",
            "name": lambda _: "rl_lightning",
            "version": lambda _: version,
            "known_command": lambda words: str("".join(words[:1]) in self._commands).lower(),
            "list_commands": lambda _: "\n".join(self._commands),
            "quit": self._quit,
            "boardsize": self._board_size,
            "clear_board": self._clear_board,
            "komi": self._komi,
            "time_settings": lambda words: _numbers(words, 3),
            "time_left": lambda words: _numbers(words[1:], 2),
            "fixed_handicap": self._fixed_handicap,
            "place_free_handicap": self._fixed_handicap,
            "set_free_handicap": self._set_free_handicap,
            "play": self._play,
            "genmove": self._generate,
            "reg_genmove": lambda words: self._generate(words, plays=False),
            "undo": self._undo,
            "loadsgf": self._load_sgf,
            "showboard": lambda _: "\n" + str(self.state),
            "all_legal": self._all_legal,
            "final_score": self._final_score,
            "gogui-analyze_commands": lambda _: "\n".join(ANALYSES),
        }
        self.state: State = game.start()
        self.moves: list[tuple[int, int]] = []  # player and action

    def serve(self, commands: Iterable[str], answers: TextIO) -> None:
        """Answer commands until `quit` or the end of the input.

        Args:
            commands: Lines.
            answers: Receives the answers.
        """
        if isinstance(commands, io.TextIOWrapper):
            commands.reconfigure(encoding="utf-8", errors="replace")
        for line in commands:
            answer = self.answer(line)
            if answer:
                answers.write(answer)
                answers.flush()
            if self.has_quit:
                break

    def answer(self, line: str) -> str:
        """The answer to a line, with the empty line after it; "" if the line has no command."""
        line = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", line.partition("#")[0])
        words = line.split()
        number = words.pop(0) if words and re.fullmatch("[0-9]+", words[0]) else ""
        if not words:
            return ""
        name, arguments = words[0], words[1:]
        state, moves = self.state, [*self.moves]
        try:
            if name not in self._commands:
                raise GtpError("unknown command")
            text = self._commands[name](arguments)
        except Exception as error:
            self.state, self.moves = state, moves
            is_ours = isinstance(error, GtpError)
            said = str(error) if is_ours else f"{type(error).__name__}: {one_line(str(error))}"
            return f"?{number} {said}\n\n"
        # An empty line ends an answer, so there is none inside.
        text = re.sub(r"\n\s*\n", "\n", text)
        return f"={number} {text.rstrip()}".rstrip(" ") + "\n\n"

    def _quit(self, words: list[str]) -> str:
        self.has_quit = True
        return ""

    def _board_size(self, words: list[str]) -> str:
        if [word.lstrip("0") for word in words[:1]] != [str(self.game.board_shape[0])]:
            raise GtpError("unacceptable size")
        return self._clear_board([])

    def _clear_board(self, words: list[str]) -> str:
        self._replay([])
        return ""

    def _komi(self, words: list[str]) -> str:
        _numbers(words, 1)
        komi = float(words[0])
        if abs(komi) > LARGEST_KOMI:
            raise GtpError("unacceptable komi")
        # OpenSpiel reads no exponents.
        parameters = {**self.game.rules.get_parameters(), "komi": f"{komi:f}"}
        game, moves = self.game, self.moves
        self.game = BoardGame(f"go({','.join(f'{k}={v}' for k, v in parameters.items())})")
        try:
            self._replay(moves)
        except Exception:
            self.game = game
            raise
        return ""

    def _replay(self, moves: Iterable[tuple[int, int]]) -> None:
        """Begin a new game with these moves."""
        self.state, self.moves = self.game.start(), []
        for player, action in moves:
            self._put(player, action)

    def _put(self, player: int, action: int) -> None:
        """Play a move of either player.

        Raises:
            GtpError: If the rules forbid it. The game is unchanged then.
        """
        state = self._with_turn_of(player)
        if action not in self.game.legal_actions(state):
            raise GtpError("illegal move")
        self.game.play(state, action)
        self.state = state
        self.moves.append((player, action))

    def _with_turn_of(self, player: int) -> State:
        """The position with this player to move. It is the game's own state where this is so."""
        if not self.state.is_terminal() and self.state.current_player() == player:
            return self.state
        return set_up(self.game, self.game.stones(self.state), player)

    def _play(self, words: list[str]) -> str:
        player = _player(words)
        if len(words) < 2:
            raise GtpError("syntax error")
        self._put(player, action_of(self.game, words[1]))
        return ""

    def _generate(self, words: list[str], plays: bool = True) -> str:
        player = _player(words)
        last = [action for _, action in self.moves[-2:]]
        if last == [self.game.num_points] * 2:  # both want the game to end
            action = self.game.num_points
        else:
            action = self.player([self._with_turn_of(player)])[0]
        if action == RESIGN:
            return "resign"
        if plays:
            self._put(player, action)
        return vertex_of(self.game, action)

    def _undo(self, words: list[str]) -> str:
        if not self.moves:
            raise GtpError("cannot undo")
        self._replay(self.moves[:-1])
        return ""

    def _fixed_handicap(self, words: list[str]) -> str:
        _numbers(words, 1)
        vertices = handicap_vertices(self.game.board_shape[0], float(words[0]))
        self._set_free_handicap(vertices)
        return " ".join(vertices)

    def _set_free_handicap(self, words: list[str]) -> str:
        points = [action_of(self.game, word) for word in words]
        if self.moves:
            raise GtpError("board not empty")
        if len(points) < 2 or len({*points}) < len(points) or self.game.num_points in points:
            raise GtpError("bad vertex list")
        self._replay([(0, point) for point in points])
        return ""

    def _load_sgf(self, words: list[str]) -> str:
        if not words:
            raise GtpError("syntax error")
        until = None
        if len(words) > 1:
            _numbers(words[1:], 1)
            until = max(int(float(words[1])) - 1, 0)
        try:
            content = Path(words[0]).read_bytes()
        except OSError:
            raise GtpError("cannot load file") from None
        game = read_game(content, self.game.board_shape[0])
        if isinstance(game, str):
            raise GtpError(f"cannot load file: the game is {game}")
        self._replay([*((0, point) for point in game.handicap), *game.moves[:until]])
        self._komi([str(game.komi)])
        return ""

    def _all_legal(self, words: list[str]) -> str:
        state = self._with_turn_of(_player(words))
        points = self.game.legal_actions(state)[:-1]  # the last is the pass
        return " ".join(vertex_of(self.game, point) for point in points)

    def _final_score(self, words: list[str]) -> str:
        """The points on the board, with all stones alive."""
        points = area_difference(self.game, self.state)
        if points == 0:
            return "0"
        return f"{'B' if points > 0 else 'W'}+{abs(points):g}"


def _player(words: list[str]) -> int:
    """The player of a colour's name, the first of the words."""
    colours = {"b": 0, "black": 0, "w": 1, "white": 1}
    if not words or words[0].lower() not in colours:
        raise GtpError("syntax error")
    return colours[words[0].lower()]


def _numbers(words: list[str], count: int) -> str:
    """Check that there are so many words and that they are finite numbers; "" is the answer."""
    try:
        are_numbers = all(math.isfinite(float(word)) for word in words)
    except ValueError:
        are_numbers = False
    if len(words) != count or not are_numbers:
        raise GtpError("syntax error")
    return ""


def handicap_vertices(board_size: int, number: float) -> list[str]:
    """The points of a fixed handicap, in the order of the protocol.

    Raises:
        GtpError: If the protocol has no such handicap for this board.
    """
    largest = 0 if board_size < 7 else 4 if board_size % 2 == 0 or board_size == 7 else 9
    if number not in range(2, largest + 1):
        raise GtpError("invalid number of stones")
    low = 2 if board_size < 13 else 3
    middle, high = board_size // 2, board_size - 1 - low
    points = [(low, low), (high, high), (high, low), (low, high)]
    if number >= 6:
        points += [(middle, low), (middle, high)]
    if number >= 8:
        points += [(low, middle), (high, middle)]
    points = points[: int(number) - int(number) % 2 if number > 4 else int(number)]
    if number in (5, 7, 9):
        points.append((middle, middle))
    return [f"{COLUMNS[column]}{row + 1}" for row, column in points]


def area_difference(game: BoardGame, state: State) -> float:
    """Black's points minus White's and the komi, by area, with all stones alive."""
    return float(game.owners(state).sum(dtype=np.int64) - game.rules.get_parameters()["komi"])
