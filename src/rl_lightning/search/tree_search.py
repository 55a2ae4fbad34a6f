"""Monte-Carlo tree search with PUCT, in many games at once."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from rl_lightning.games.board_game import BoardGame, State
from rl_lightning.games.matches import RESIGN
from rl_lightning.runtime.constructors import require_range
from rl_lightning.runtime.errors import ConfigurationError
from rl_lightning.search.evaluators import NetworkEvaluator, RolloutEvaluator
from rl_lightning.search.tree import NOT_EXPANDED, Tree

Array = npt.NDArray[Any]


class SearchOptions(TypedDict, total=False):
    """Settings of a `TreeSearch`, which describes them."""

    num_simulations: int
    rollout_share: float
    exploration: float
    leaves_per_batch: int
    virtual_loss: int
    resign_below: float


class SearchResult(NamedTuple):
    """What a search found at the roots of N trees; 0 for actions that are not searched."""

    visits: Array  # [N, A] int64: N(s, a)
    values: Array  # [N, A] float64: Q(s, a), for the player to move; 0 without a visit
    priors: Array  # [N, A] float32: P(s, a)


class _Leaf(NamedTuple):
    tree: Tree
    path: Array  # edges from the root
    state: State


class _SearchedGame(NamedTuple):
    state: State  # changes while the game goes on
    moves: list[int]  # that lead to the root of the tree
    tree: Tree


class TreeSearch:
    """Searches positions by the algorithm of AlphaGo, and plays the most visited action.

    A simulation goes down from the root by the largest Q(s, a) + U(s, a), to a leaf s_L, which is
    not in the tree yet. It evaluates the leaf by

        V(s_L) = (1 - λ) v(s_L) + λ z(s_L),

    with v of the value network and z the mean result of rollouts. It adds the leaf to the tree,
    with the policy network's probabilities as P, and V to W(s, a) of all edges on its way. At the
    end of a game V is the result.

    The paper differs in this: it adds a leaf after 40 visits, it counts the visits of v and of z
    apart, and threads evaluate leaves at different times. Here `leaves_per_batch` leaves of each
    tree are selected one after the other, with virtual losses, and evaluated in one batch. There
    is no noise at the root. As in the paper the tree of a game is kept while the game goes on.

    Actions with the prior 0 are not searched, and a position with one action is not searched at
    all. Where the opponent has passed and a pass wins, the pass is the only action.

    A `TreeSearch` is a `Player` of `rl_lightning.games.matches`.

    Args:
        game: The game.
        evaluate: Gives P and v.
        num_simulations: Simulations for each position, added to those of a kept tree.
        roll_out: Gives z; needed if `rollout_share` is above 0.
        rollout_share: λ.
        exploration: c of U; 5 in the paper.
        leaves_per_batch: Leaves of one tree that are evaluated together.
        virtual_loss: Losses that a path counts while its leaf is evaluated; 3 in the paper.
        resign_below: The search resigns if the most visited action has a smaller Q; -1 never does.

    Raises:
        ConfigurationError: If an argument is out of range.
    """

    def __init__(
        self,
        game: BoardGame,
        evaluate: NetworkEvaluator,
        num_simulations: int = 200,
        roll_out: RolloutEvaluator | None = None,
        rollout_share: float = 0.0,
        exploration: float = 5.0,
        leaves_per_batch: int = 8,
        virtual_loss: int = 3,
        resign_below: float = -1.0,
    ) -> None:
        require_range(1, num_simulations=num_simulations, leaves_per_batch=leaves_per_batch)
        require_range(0, virtual_loss=virtual_loss, exploration=exploration)
        require_range(0, 1, rollout_share=rollout_share)
        require_range(-1, 1, resign_below=resign_below)
        if rollout_share > 0 and roll_out is None:
            raise ConfigurationError(
                f"rollout_share is {rollout_share} and there are no rollouts: give roll_out, or "
                "set rollout_share to 0"
            )
        self.game = game
        self.evaluate = evaluate
        self.num_simulations = num_simulations
        self.roll_out = roll_out
        self.rollout_share = rollout_share
        self.exploration = exploration
        self.leaves_per_batch = leaves_per_batch
        self.virtual_loss = virtual_loss
        self.resign_below = resign_below
        # The games of the last two calls, by the identity of their states. A player of games in
        # lock-step sees a game in every second call, because half of them begin one move later.
        self._searched: deque[dict[int, _SearchedGame]] = deque(maxlen=2)

    def __call__(self, states: Sequence[State]) -> list[int]:
        """The move in each position: an action, or `RESIGN`."""
        return self.choose(self.search(states))

    def choose(self, found: SearchResult) -> list[int]:
        """The most visited actions, or `RESIGN`; of equal ones those with the larger Q."""
        # A difference of Q, at most 2, counts less than a visit.
        ranks = np.where(found.priors > 0, found.visits + found.values / 4, -np.inf)
        best = ranks.argmax(1)
        q = np.take_along_axis(found.values, best[:, None], 1)[:, 0]
        chosen: list[int] = np.where(q < self.resign_below, RESIGN, best).tolist()
        return chosen

    def search(self, states: Sequence[State]) -> SearchResult:
        """Search positions of games that are not finished.

        Args:
            states: N positions.

        Returns:
            What the trees hold after the simulations, with the visits of those that were kept.
        """
        trees = self._trees_of(states)
        open_trees = [
            (tree, state)
            for tree, state in zip(trees, states, strict=True)
            if tree.num_edges[0] > 1
        ]
        for done in range(0, self.num_simulations if open_trees else 0, self.leaves_per_batch):
            count = min(self.leaves_per_batch, self.num_simulations - done)
            leaves = [self._select(*each) for _ in range(count) for each in open_trees]
            self._evaluate_and_back_up(leaves)
        return self._results(trees)

    def _trees_of(self, states: Sequence[State]) -> list[Tree]:
        """The trees of positions: those that were kept of their games, or new ones."""
        trees = [self._kept_tree(state) for state in states]
        missing = [index for index, tree in enumerate(trees) if tree is None]
        if missing:
            new = [states[index] for index in missing]
            for index, state, priors in zip(missing, new, self.evaluate(new)[0], strict=True):
                trees[index] = tree = Tree()
                self._add_node(tree, state, priors)
        found = [tree for tree in trees if tree is not None]
        self._searched.append(
            {
                id(state): _SearchedGame(state, state.history(), tree)
                for state, tree in zip(states, found, strict=True)
            }
        )
        return found

    def _kept_tree(self, state: State) -> Tree | None:
        """The part of a game's last tree below the moves since then; None if there is none."""
        games = [games[id(state)] for games in self._searched if id(state) in games]
        moves = state.history()
        if not games or moves[: len(games[-1].moves)] != games[-1].moves:
            return None
        position, tree = self.game.start(), games[-1].tree
        for number, move in enumerate(moves):
            if number >= len(games[-1].moves):
                below = tree.subtree(self.game.action_of(position, move))
                if below is None:
                    return None
                tree = below
            position.apply_action(move)
        return tree

    def _select(self, tree: Tree, root: State) -> _Leaf:
        path, state = tree.select(self.exploration, self.virtual_loss), root.clone()
        for edge in path:
            self.game.play(state, int(tree.actions[edge]))
        return _Leaf(tree, path, state)

    def _evaluate_and_back_up(self, leaves: Sequence[_Leaf]) -> None:
        """Evaluate all leaves in one batch, add them to their trees, and count the simulations."""
        going_on = [leaf for leaf in leaves if not leaf.state.is_terminal()]
        for leaf in leaves:
            if leaf.state.is_terminal():
                self._expand(leaf, np.empty(0))
                result = self.game.outcome(leaf.state, 0)
                leaf.tree.back_up(leaf.path, result, 0, self.virtual_loss)
        if not going_on:
            return
        states = [leaf.state for leaf in going_on]
        priors, values = self.evaluate(states)
        if self.roll_out is not None and self.rollout_share > 0:
            values = (1 - self.rollout_share) * values + self.rollout_share * self.roll_out(states)
        for leaf, row, value in zip(going_on, priors, values, strict=True):
            self._expand(leaf, row)
            player = leaf.state.current_player()
            leaf.tree.back_up(leaf.path, float(value), player, self.virtual_loss)

    def _expand(self, leaf: _Leaf, priors: Array) -> None:
        """Add the node of a leaf, unless another path of this batch has added it."""
        tree, last = leaf.tree, leaf.path[-1]
        if tree.children[last] == NOT_EXPANDED:
            node = self._add_node(tree, leaf.state, priors)
            tree.children[last] = node

    def _add_node(self, tree: Tree, state: State, priors: Array) -> int:
        """Add a node with the legal actions whose prior is not 0."""
        player = state.current_player()
        if self.game.wins_by_pass(state):
            return tree.add_node(player, [self.game.num_points], np.ones(1))
        legal = np.array(self.game.legal_actions(state), np.int64)
        actions = legal[priors[legal] > 0] if len(legal) else legal
        return tree.add_node(player, actions, priors[actions] / priors[actions].sum())

    def _results(self, trees: Sequence[Tree]) -> SearchResult:
        shape = (len(trees), self.game.num_actions)
        found = SearchResult(
            np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.float32)
        )
        for row, tree in enumerate(trees):
            edges = tree.edges_of(0)
            actions, visits = tree.actions[edges], tree.visits[edges]
            found.visits[row, actions] = visits
            found.values[row, actions] = tree.totals[edges] / np.maximum(visits, 1)
            found.priors[row, actions] = tree.priors[edges]
        return found
