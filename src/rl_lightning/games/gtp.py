"""An engine of the Go Text Protocol, version 2, which Go front ends play against.

Source: Farnebäck 2002, "Specification of the Go Text Protocol, version 2, draft 2".
"""

import re
from collections.abc import Callable, Iterable
from typing import TextIO

import numpy as np

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.matches import Player
from rl_lightning.runtime.errors import ConfigurationError, import_extra

COLUMNS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"  # without I


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
    column, row = COLUMNS.find(vertex[:1].upper()), vertex[1:]
    height, width = game.board_shape
    if not vertex or not 0 <= column < width or not row.isdecimal() or not 1 <= int(row) <= height:
        raise GtpError("invalid vertex")
    return (int(row) - 1) * width + column


class GtpEngine:
    """Answers commands for one game at a time.

    Args:
        game: Go. Another komi is accepted, another size of the board is not.
        player: Chooses the moves.
        version: Of this program.
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
            "play": self._play,
            "genmove": self._generate,
            "undo": self._undo,
            "showboard": lambda _: "\n" + str(self.state),
            "final_score": self._final_score,
        }
        self.state: State = game.start()

    def serve(self, commands: Iterable[str], answers: TextIO) -> None:
        """Answer commands until `quit` or the end of the input.

        Args:
            commands: Lines.
            answers: Receives the answers.
        """
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
        number = words.pop(0) if words and words[0].isdecimal() else ""
        if not words:
            return ""
        name, arguments = words[0], words[1:]
        try:
            if name not in self._commands:
                raise GtpError("unknown command")
            text = self._commands[name](arguments)
            return f"={number} {text}".rstrip(" ") + "\n\n"
        except GtpError as error:
            return f"?{number} {error}\n\n"

    def _quit(self, words: list[str]) -> str:
        self.has_quit = True
        return ""

    def _board_size(self, words: list[str]) -> str:
        if words[:1] != [str(self.game.board_shape[0])]:
            raise GtpError("unacceptable size")
        return self._clear_board([])

    def _clear_board(self, words: list[str]) -> str:
        self.state = self.game.start()
        return ""

    def _komi(self, words: list[str]) -> str:
        try:
            komi = float(words[0])
        except (IndexError, ValueError):
            raise GtpError("syntax error") from None
        self.game = BoardGame(f"go(board_size={self.game.board_shape[0]},komi={komi})")
        self._replay(self.state.history())
        return ""

    def _replay(self, actions: list[int]) -> None:
        self.state = self.game.start()
        for action in actions:
            self.game.play(self.state, action)

    def _turn(self, words: list[str]) -> None:
        """Let the other player pass, if it is to move.

        Raises:
            GtpError: If the words name no colour.
        """
        colour = words[0].lower() if words else ""
        if colour not in ("b", "w", "black", "white"):
            raise GtpError("syntax error")
        if self.state.is_terminal():
            return
        if self.state.current_player() != (0 if colour.startswith("b") else 1):
            self.game.play(self.state, self.game.num_points)

    def _play(self, words: list[str]) -> str:
        if len(words) < 2:
            raise GtpError("syntax error")
        action = action_of(self.game, words[1])
        before = self.state.history()
        self._turn(words)
        if self.state.is_terminal() or action not in self.game.legal_actions(self.state):
            self._replay(before)
            raise GtpError("illegal move")
        self.game.play(self.state, action)
        return ""

    def _generate(self, words: list[str]) -> str:
        self._turn(words)
        if self.state.is_terminal():
            return "PASS"
        action = self.player([self.state])[0]
        self.game.play(self.state, action)
        return vertex_of(self.game, action)

    def _undo(self, words: list[str]) -> str:
        if not self.state.history():
            raise GtpError("cannot undo")
        self._replay(self.state.history()[:-1])
        return ""

    def _final_score(self, words: list[str]) -> str:
        """The points on the board, with all stones alive."""
        points = area_difference(self.game, self.state)
        if points == 0:
            return "0"
        return f"{'B' if points > 0 else 'W'}+{abs(points):g}"


def area_difference(game: BoardGame, state: State) -> float:
    """Black's points minus White's and the komi, by area, with all stones alive."""
    boards = import_extra("sgfmill.boards", "Scores of Go need sgfmill", "go")
    board = boards.Board(game.board_shape[0])
    planes = np.array(state.observation_tensor()).reshape(-1, *game.board_shape)
    board.apply_setup(np.argwhere(planes[0]), np.argwhere(planes[1]), ())
    return float(board.area_score() - game.rules.get_parameters()["komi"])
