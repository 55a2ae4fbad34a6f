"""Which cases of a long list every run of the tests takes."""

from collections.abc import Iterable
from typing import Any

import pytest


def sample(cases: Iterable[Any], *taken: Any) -> list[Any]:
    """All cases, for `pytest.mark.parametrize`; those that are not `taken` are marked slow."""
    return [each if each in taken else pytest.param(each, marks=pytest.mark.slow) for each in cases]
