"""GNU Go as a player, over the Go Text Protocol."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.gtp import action_of, vertex_of
from rl_lightning.runtime.errors import ConfigurationError, RunError

# Debian installs games outside the usual search path.
PLACES = ("gnugo", "/usr/games/gnugo")
# Without these options GNU Go leaves dead stones on the board, which the rules here count as alive.
OPTIONS = ("--mode", "gtp", "--chinese-rules", "--capture-all-dead", "--never-resign")


def find_gnugo() -> str:
    """The path of the program.

    Raises:
        ConfigurationError: If it is not installed.
    """
    for place in PLACES:
        if (found := shutil.which(place)) is not None:
            return found
    raise ConfigurationError(
        "the opponent gnugo needs the program GNU Go, which is not installed: apt-get install "
        "gnugo, or choose another opponent"
    )


class GnuGo:
    """A `Player` of `rl_lightning.games.matches`.

    One process plays all games. It is given a game's moves from the start, unless the last
    position that it saw was an earlier one of the same game.

    Args:
        game: Go.
        level: From 1 to 10; 10 is GNU Go's default and the strongest.
        seed: Seed of its random numbers.

    Raises:
        ConfigurationError: If the program is not installed, or the game is not Go.
    """

    def __init__(self, game: BoardGame, level: int = 1, seed: int = 1) -> None:
        if not game.is_go:
            raise ConfigurationError(
                f"the opponent gnugo plays Go, and the game is {game.name}: choose another opponent"
            )
        self.game = game
        self._moves: list[int] | None = None
        options = (*OPTIONS, "--level", str(level), "--seed", str(seed))
        self._process = subprocess.Popen(
            [find_gnugo(), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._send(f"boardsize {game.board_shape[0]}")
            self._send(f"komi {game.rules.get_parameters()['komi']}")
        except RunError:
            self.close()
            raise

    def __call__(self, states: Sequence[State]) -> list[int]:
        """GNU Go's move in each position."""
        return [self._choose(state) for state in states]

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a command that was not read is lost
                    pipe.close()

    def _choose(self, state: State) -> int:
        moves = state.history()
        known = self._moves
        if known is None or moves[: len(known)] != known:
            self._send("clear_board")
            known = []
        for number in range(len(known), len(moves)):
            vertex = vertex_of(self.game, moves[number])
            self._send(f"play {'BW'[number % 2]} {vertex}")
        action = action_of(self.game, self._send(f"genmove {'BW'[len(moves) % 2]}"))
        self._moves = [*moves, action]
        if action not in self.game.legal_actions(state):
            raise RunError(
                f"GNU Go plays {vertex_of(self.game, action)}, which OpenSpiel forbids, after "
                f"{' '.join(vertex_of(self.game, move) for move in moves)}: report this position"
            )
        return action

    def _send(self, command: str) -> str:
        """Send a command and return the answer without its mark."""
        into, out = self._pipes()
        with suppress(BrokenPipeError):  # the process has ended, which the answer shows
            into.write(command + "\n")
            into.flush()
        lines: list[str] = []
        while True:
            line = out.readline()
            if not line:
                raise RunError(
                    f"GNU Go ended at the command {command!r}: run it by hand to see why"
                )
            if line.strip():
                lines.append(line.strip())
            elif lines:
                break
        if not lines[0].startswith("="):
            raise RunError(
                f"GNU Go answers {lines[0]!r} to {command!r}: its board differs from ours"
            )
        return lines[0][1:].strip()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout
