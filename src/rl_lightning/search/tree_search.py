"""Monte-Carlo tree search with PUCT, in many games at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.search.evaluators import Evaluator, Rollout
from rl_lightning.search.tree import NOT_EXPANDED, Tree

Array = npt.NDArray[Any]


class SearchResult(NamedTuple):
    """What a search found in each of N positions."""

    visits: Array  # [N, A] int64: simulations through each action of the root
    values: Array  # [N, A] float64: their mean value for the player to move, 0 without a visit
    priors: Array  # [N, A] float32: of the root


class _Leaf(NamedTuple):
    tree: Tree
    path: Array
    state: State


class TreeSearch:
    """Searches positions by the algorithm of AlphaGo, and plays the most visited action.

    The value of a leaf is (1 - λ) v + λ z, with v from the evaluator and z from a rollout. There
    is no noise at the root. The tree of a game is kept while it goes on: the search of a
    position starts from what the search of an earlier position of this game found.

    Legal actions with the prior 0 are not searched.

    A `TreeSearch` is a `Player` of `rl_lightning.games.matches`.

    Args:
        game: The game.
        evaluate: Gives priors and values.
        num_simulations: Simulations for each position, in addition to those of a reused tree.
        rollout: Plays positions to their end; needed if `rollout_share` is above 0.
        rollout_share: λ.
        exploration: c of PUCT; 5 in the paper.
        leaves_per_batch: Leaves of one tree that are evaluated together.
        virtual_loss: Losses that a path counts while its leaf is evaluated; 3 in the paper.

    Raises:
        ConfigurationError: If an argument is out of range.
    """

    def __init__(
        self,
        game: BoardGame,
        evaluate: Evaluator,
        num_simulations: int = 200,
        rollout: Rollout | None = None,
        rollout_share: float = 0.0,
        exploration: float = 5.0,
        leaves_per_batch: int = 8,
        virtual_loss: int = 3,
    ) -> None:
        if min(num_simulations, leaves_per_batch) < 1 or virtual_loss < 0 or exploration < 0:
            raise ConfigurationError(
                f"a search has num_simulations {num_simulations}, leaves_per_batch "
                f"{leaves_per_batch}, virtual_loss {virtual_loss} and exploration {exploration}: "
                "make the first two at least 1 and the others at least 0"
            )
        if not 0 <= rollout_share <= 1 or (rollout_share > 0 and rollout is None):
            raise ConfigurationError(
                f"rollout_share is {rollout_share}: make it between 0 and 1, and give a rollout if "
                "it is above 0"
            )
        self.game = game
        self.evaluate = evaluate
        self.num_simulations = num_simulations
        self.rollout = rollout
        self.rollout_share = rollout_share
        self.exploration = exploration
        self.leaves_per_batch = leaves_per_batch
        self.virtual_loss = virtual_loss
        # By the identity of a game's state, which changes while the game goes on: the state, the
        # moves that lead to the root, and the tree. Lock-step games are searched in every second
        # call, so trees that two calls did not use are of games that were given up.
        self._kept: dict[int, tuple[State, list[int], Tree]] = {}
        self._before: dict[int, tuple[State, list[int], Tree]] = {}

    def __call__(self, states: Sequence[State]) -> list[int]:
        """The most visited action of each position; of equal ones that with the better value."""
        return self.best_actions(self.search(states))

    @staticmethod
    def best_actions(found: SearchResult) -> list[int]:
        """The most visited actions; of equal ones those with the better value."""
        ranks = found.visits + (1 + found.values) / 4  # values are in [-1, 1]
        return [int(action) for action in ranks.argmax(1)]

    def search(self, states: Sequence[State]) -> SearchResult:
        """Search positions of games that are not finished.

        Args:
            states: N positions.

        Returns:
            The visits, values and priors of their actions, with those of reused trees.
        """
        trees = self._roots(states)
        done = 0
        while done < self.num_simulations:
            count = min(self.leaves_per_batch, self.num_simulations - done)
            self._simulate(trees, states, count)
            done += count
        return self._results(trees)

    def forget(self) -> None:
        """Discard the trees of all games."""
        self._kept, self._before = {}, {}

    def _roots(self, states: Sequence[State]) -> list[Tree]:
        """The trees of positions, reused from their games or new, with expanded roots."""
        trees = [self._reused(state) for state in states]
        missing = [index for index, tree in enumerate(trees) if tree is None]
        if missing:
            new = [states[index] for index in missing]
            priors, _ = self.evaluate(new)
            for index, state, row in zip(missing, new, priors, strict=True):
                tree = Tree()
                self._add_node(tree, state, row)
                trees[index] = tree
        found = [tree for tree in trees if tree is not None]
        self._before, self._kept = self._kept, {}
        for state, tree in zip(states, found, strict=True):
            self._kept[id(state)] = (state, state.history(), tree)
        return found

    def _reused(self, state: State) -> Tree | None:
        kept = self._kept.get(id(state)) or self._before.get(id(state))
        if kept is None:
            return None
        _, before, tree = kept
        moves = state.history()
        if moves[: len(before)] != before:
            return None
        there, found = self.game.start(), tree
        for number, move in enumerate(moves):
            if number >= len(before):
                below = found.subtree(self.game.action_of(there, move))
                if below is None:
                    return None
                found = below
            there.apply_action(move)
        return found

    def _simulate(self, trees: Sequence[Tree], states: Sequence[State], count: int) -> None:
        """Do `count` simulations in each tree, with one evaluation of all leaves."""
        leaves: list[_Leaf] = []
        final: list[_Leaf] = []
        for _ in range(count):
            for tree, root in zip(trees, states, strict=True):
                path = tree.select(self.exploration, self.virtual_loss)
                state = root.clone()
                for edge in path:
                    self.game.play(state, int(tree.actions[edge]))
                (final if state.is_terminal() else leaves).append(_Leaf(tree, path, state))
        for leaf in final:
            self._expand(leaf, np.empty(0))
            self._back_up(leaf, self.game.outcome(leaf.state, 0))
        if not leaves:
            return
        positions = [leaf.state for leaf in leaves]
        priors, values = self.evaluate(positions)
        values = values * [1 if state.current_player() == 0 else -1 for state in positions]
        if self.rollout is not None and self.rollout_share > 0:
            results = self.rollout(positions)
            values = (1 - self.rollout_share) * values + self.rollout_share * results
        for leaf, row, value in zip(leaves, priors, values, strict=True):
            self._expand(leaf, row)
            self._back_up(leaf, float(value))

    def _expand(self, leaf: _Leaf, priors: Array) -> None:
        """Add the node of a leaf, unless another path of this batch has added it."""
        tree, last = leaf.tree, leaf.path[-1]
        if tree.children[last] == NOT_EXPANDED:
            node = self._add_node(tree, leaf.state, priors)
            tree.children[last] = node

    def _add_node(self, tree: Tree, state: State, priors: Array) -> int:
        legal = self.game.legal_actions(state)
        if legal:  # the game goes on
            legal = [action for action in legal if priors[action] > 0]
        chosen = priors[legal]
        if legal:
            chosen = chosen / chosen.sum()
        return tree.add_node(state.current_player(), legal, chosen)

    def _back_up(self, leaf: _Leaf, value: float) -> None:
        leaf.tree.back_up(leaf.path, value, self.virtual_loss)

    def _results(self, trees: Sequence[Tree]) -> SearchResult:
        shape = (len(trees), self.game.num_actions)
        found = SearchResult(
            np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.float32)
        )
        for row, tree in enumerate(trees):
            edges = tree.root_edges()
            actions, visits = tree.actions[edges], tree.visits[edges]
            found.visits[row, actions] = visits
            found.values[row, actions] = tree.totals[edges] / np.maximum(visits, 1)
            found.priors[row, actions] = tree.priors[edges]
        return found
