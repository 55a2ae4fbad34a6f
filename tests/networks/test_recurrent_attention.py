"""The cores of RAM's network. Its rollouts are tested with its losses, in test_ram.py."""

import torch

from rl_lightning.networks.recurrent_attention import RecurrentCore


def test_core_is_the_papers_relu_recurrence() -> None:
    core = RecurrentCore(5, 7)
    glimpse, hidden = torch.randn(3, 5), torch.randn(3, 7)
    expected = torch.relu(core.from_glimpse(glimpse) + core.from_hidden(hidden))
    torch.testing.assert_close(core(glimpse, (hidden,))[0], expected)
    nothing = torch.zeros(3, 7)
    torch.testing.assert_close(core(glimpse, None)[0], core(glimpse, (nothing,))[0])


def test_a_core_initialised_with_the_identity_keeps_its_first_glimpse() -> None:
    torch.manual_seed(0)
    core = RecurrentCore(64, 64, "identity")
    glimpses = torch.rand(8, 16, 64, requires_grad=True)
    state = None
    for glimpse in glimpses:
        state = core(glimpse, state)
    assert state is not None
    state[0].sum().backward()
    assert glimpses.grad is not None
    first, last = glimpses.grad[0].norm(), glimpses.grad[-1].norm()
    assert first > 0.5 * last
