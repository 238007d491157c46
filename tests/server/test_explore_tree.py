"""The order of a tree's nodes, whatever is known when."""

import math

from hypothesis import given
from hypothesis import strategies as st

from nextok_server.candidates import Candidate
from nextok_server.explore_tree import Bounds, Node, Tree

# Few different values, so that paths are often equally likely.
LOGPROBS = [0.0, -0.5, -1.0, -1.0, -1.5, -2.0]


def candidates_after(path: tuple[int, ...], salt: int) -> list[Candidate]:
    """What may follow a path: a function of it, the likeliest first."""
    drawn = [LOGPROBS[hash((salt, path, place)) % len(LOGPROBS)] for place in range(5)]
    return [
        Candidate(10 * rank, logprob, rank, math.exp(logprob), True)
        for rank, logprob in enumerate(sorted(drawn, reverse=True), 1)
    ]


def by_definition(bounds: Bounds, salt: int) -> list[tuple[int, ...]]:
    """The tree's paths in their order: one by one, nothing ahead of its turn."""
    least = math.log(bounds.min_probability) if bounds.min_probability else -math.inf
    listed: list[tuple[int, ...]] = []
    waiting: list[tuple[float, int, int, tuple[int, ...]]] = []

    def expand(path: tuple[int, ...], cumulative: float) -> None:
        if len(path) < bounds.depth:
            for candidate in candidates_after(path, salt)[: bounds.width]:
                whole = cumulative + candidate.logprob
                if whole >= least:
                    below = (*path, candidate.token_id)
                    waiting.append((-whole, len(listed), candidate.rank, below))

    expand((), 0.0)
    while waiting and len(listed) < bounds.nodes:
        waiting.sort()
        cost, _, _, path = waiting.pop(0)
        listed.append(path)
        expand(path, -cost)
    return listed


BOUNDS = st.builds(
    Bounds,
    depth=st.integers(1, 4),
    width=st.integers(1, 5),
    min_probability=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    nodes=st.integers(1, 60),
)


@given(bounds=BOUNDS, salt=st.integers(0, 999), data=st.data())
def test_nodes_come_in_the_order_of_the_definition_whatever_is_known_when(bounds, salt, data):
    tree = Tree(bounds)
    pending: list[Node] = [tree.root]
    listed: list[Node] = []
    while pending:
        node = pending.pop(data.draw(st.integers(0, len(pending) - 1)))
        tree.tell(node, candidates_after(node.path, salt))
        listed += tree.list_known()
        if tree.is_full or tree.is_complete:
            break
        for _ in range(data.draw(st.integers(0 if pending else 1, 4))):
            if (more := tree.ask()) is not None:
                pending.append(more)
    expected = by_definition(bounds, salt)
    assert [node.path for node in listed] == expected
    assert listed == tree.listed
    assert [node.number for node in listed] == list(range(1, len(listed) + 1))
    assert tree.is_complete or tree.is_full
    parents = {path[:-1] for path in expected}
    leaves = [node.cumulative for node in listed if node.path not in parents]
    assert tree.leaf_mass == math.fsum(map(math.exp, leaves))


@given(bounds=BOUNDS, salt=st.integers(0, 999))
def test_nothing_is_asked_for_that_the_list_cannot_need(bounds, salt):
    tree = Tree(bounds)
    tree.tell(tree.root, candidates_after((), salt))
    list(tree.list_known())
    asked = 0
    while not (tree.is_full or tree.is_complete):
        node = tree.ask()
        assert node is not None
        assert node.depth < bounds.depth
        asked += 1
        tree.tell(node, candidates_after(node.path, salt))
        list(tree.list_known())
    assert asked == tree.expanded - 1
    assert asked < bounds.nodes
