"""One search tree in flat arrays, with its selection, expansion and backup.

Each node s has one edge for each action a that is searched. An edge holds P(s, a), N(s, a) and
W(s, a) of the paper, from which Q(s, a) = W(s, a) / N(s, a). W and Q are from the view of the
player who moves at s. The edges of a node lie side by side.

Source: Silver et al. 2016, "Mastering the game of Go with deep neural networks and tree search",
methods, "Search algorithm".
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from rl_lightning.runtime.errors import import_extra

Array = npt.NDArray[Any]

NOT_EXPANDED = -1


class Tree:
    """A tree whose root is node 0.

    Attributes:
        first_edge: Index of the first edge of each node.
        num_edges: Number of edges of each node; 0 at the end of a game.
        players: The player to move at each node.
        actions: The action a of each edge.
        priors: P(s, a) of each edge [float32].
        visits: N(s, a) of each edge: simulations through it, and virtual losses.
        totals: W(s, a) of each edge: the sum of the values of these simulations [float64].
        children: The node that each edge leads to, or `NOT_EXPANDED`.
    """

    def __init__(self) -> None:
        self.nodes = self.edges = 0
        self.first_edge = np.zeros(64, np.int64)
        self.num_edges = np.zeros(64, np.int64)
        self.players = np.zeros(64, np.int8)
        self.actions = np.zeros(512, np.int64)
        self.priors = np.zeros(512, np.float32)
        self.visits = np.zeros(512, np.int64)
        self.totals = np.zeros(512, np.float64)
        self.children = np.zeros(512, np.int64)

    def add_node(self, player: int, actions: Array | Sequence[int], priors: Array) -> int:
        """Add a node with an edge for each action, and return its number.

        Args:
            player: The player to move.
            actions: Those that are searched; none at the end of a game.
            priors: P(s, a) of these actions.
        """
        node, first, count = self.nodes, self.edges, len(actions)
        if node == len(self.players):
            self._double("first_edge", "num_edges", "players")
        while first + count > len(self.actions):
            self._double("actions", "priors", "visits", "totals", "children")
        self.first_edge[node], self.num_edges[node], self.players[node] = first, count, player
        new = slice(first, first + count)
        self.actions[new], self.priors[new] = actions, priors
        self.visits[new], self.totals[new], self.children[new] = 0, 0, NOT_EXPANDED
        self.nodes, self.edges = node + 1, first + count
        return node

    def edges_of(self, node: int) -> slice:
        """The edges of a node."""
        first = int(self.first_edge[node])
        return slice(first, first + int(self.num_edges[node]))

    def select(self, exploration: float, virtual_loss: int) -> Array:
        """Go down from the root along the edges with the largest Q + U, to a leaf.

        U(s, a) = c P(s, a) √(Σ_b N(s, b)) / (1 + N(s, a)). Before the first visit of a node the sum
        counts as 1, so that the priors decide. Q of an edge without a visit is 0. Each edge on the
        way then counts `virtual_loss` more visits with the value -1, until `back_up`, so that the
        next selection takes another way.

        Args:
            exploration: c.
            virtual_loss: Number of lost simulations.

        Returns:
            The edges of the path, the one at the root first. The last edge is not expanded, or
            leads to the end of a game.
        """
        return _select()(
            self.first_edge, self.num_edges, self.priors, self.visits, self.totals, self.children,
            exploration, virtual_loss,
        )  # fmt: skip

    def back_up(self, path: Array, value: float, player: int, virtual_loss: int) -> None:
        """Add one simulation to N and W of its path, and remove the virtual losses of `select`.

        Args:
            path: The edges.
            value: V of the leaf, from the view of `player`.
            player: 0 or 1.
            virtual_loss: As in `select`.
        """
        nodes = np.searchsorted(self.first_edge[: self.nodes], path, side="right") - 1
        signs = np.where(self.players[nodes] == player, 1.0, -1.0)
        self.visits[path] += 1 - virtual_loss
        self.totals[path] += signs * value + virtual_loss

    def subtree(self, action: int) -> "Tree | None":
        """Copy the part of the tree below an action of the root; None if it is not expanded."""
        edges = self.edges_of(0)
        found = np.flatnonzero(self.actions[edges] == action)
        child = int(self.children[edges][found[0]]) if found.size else NOT_EXPANDED
        if child == NOT_EXPANDED:
            return None
        kept = Tree()
        waiting = [(child, NOT_EXPANDED)]  # a node here, and the edge that leads to it in `kept`
        for node, incoming in waiting:
            old = self.edges_of(node)
            new = kept.add_node(self.players[node], self.actions[old], self.priors[old])
            if incoming != NOT_EXPANDED:
                kept.children[incoming] = new
            copied = kept.edges_of(new)
            kept.visits[copied], kept.totals[copied] = self.visits[old], self.totals[old]
            below = self.children[old]
            expanded = np.flatnonzero(below != NOT_EXPANDED)
            waiting += [(int(below[k]), copied.start + int(k)) for k in expanded]
        return kept

    def _double(self, *names: str) -> None:
        for name in names:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros_like(column)]))


@lru_cache
def _select() -> Callable[..., Array]:
    """Compile the selection, at the first use because the import of numba is slow."""
    njit = import_extra("numba", "tree search needs numba", "go").njit

    def select(
        first_edge: Array,
        num_edges: Array,
        priors: Array,
        visits: Array,
        totals: Array,
        children: Array,
        exploration: float,
        virtual_loss: int,
    ) -> Array:
        path, length, node = np.empty(16, np.int64), 0, 0
        while node != -1 and num_edges[node] > 0:
            first, end = first_edge[node], first_edge[node] + num_edges[node]
            total_visits = 0
            for edge in range(first, end):
                total_visits += visits[edge]
            scale = exploration * np.sqrt(max(total_visits, 1))
            best, largest = first, -np.inf
            for edge in range(first, end):
                q = totals[edge] / visits[edge] if visits[edge] > 0 else 0.0
                u = scale * priors[edge] / (1 + visits[edge])
                if q + u > largest:
                    best, largest = edge, q + u
            if length == len(path):
                path = np.concatenate((path, np.empty_like(path)))
            path[length] = best
            length += 1
            visits[best] += virtual_loss
            totals[best] -= virtual_loss
            node = children[best]
        return path[:length]

    return cast(Callable[..., Array], njit(select, cache=True))
