"""Calls of Python and C functions in one update stay few, with all default callbacks."""

import sys

import pytest

from source_files import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import python_calls

# Some 3% above what was counted on Python 3.11, because versions of NumPy and Python differ.
MOST_CALLS = {"dqn/cartpole": 1_300, "a2c/cartpole": 3_390, "sac/halfcheetah": 1_730}


@pytest.mark.parametrize("config", MOST_CALLS)
def test_an_update_takes_few_calls(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_calls, "SKIPPED", 5)
    monkeypatch.setattr(python_calls, "COUNTED", 20)
    stats = python_calls.count(config, python_calls.CONFIGS[config])
    assert stats.total_calls / python_calls.COUNTED <= MOST_CALLS[config]
