"""Randomly broken configurations are refused in one line, or train as the file says."""

import contextlib
import io
import math
import multiprocessing
import os
import queue
import random
import resource
from pathlib import Path

import lightning
import pytest
import yaml

from rl_lightning import cli
from sampling import sample

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*/*.yaml"))
CHUNKS, CASES_OF_A_CHUNK = 10, 20
MEMORY, SECONDS = 12 << 30, 60
NUMBERS = [-1, 0, 1, 2.5, 1e308, math.nan, math.inf, 10**12, -(10**12), True]
TEXTS = ["", "nonsense", "ALE/Pong-v5", "torch.nn.Linear", "../..", "\u2603", "{", "!!"]
VALUES = [None, *NUMBERS, *TEXTS, [], [1], {}, {"a": 1}]
RUBBISH = [b"", b"\n", b"{", b"[1, 2", b"\x00\xff\xfe" * 50, b"just text", b"- a\n- b", b"a: b: c"]


class StartedError(Exception):
    """Raised where training would start."""


def places(tree, path=()):
    """Every path to a value in a tree of dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def mutated(rng):
    """The bytes of a shipped configuration after one or two random changes."""
    text = rng.choice(CONFIGS).read_text()
    if rng.random() < 0.1:
        return rng.choice([*RUBBISH, text.encode()[: rng.randrange(len(text))]])
    tree = yaml.safe_load(text)
    for _ in range(rng.choice([1, 1, 2])):
        *way, key = rng.choice([*places(tree)])
        parent = tree
        for step in way:
            parent = parent[step]
        accident = rng.choice(["value", "value", "value", "missing", "extra"])
        if accident == "missing":
            del parent[key]
        elif accident == "extra" and isinstance(parent, dict):
            parent[f"{key}s"] = rng.choice(VALUES)
        else:
            parent[key] = rng.choice(VALUES)
    return yaml.safe_dump(tree, allow_unicode=True).encode()


def asked_and_resolved(asked, resolved, at=""):
    """Settings of a file that are missing in the resolved configuration."""
    if isinstance(asked, dict):
        missing = [key for key in asked if key not in resolved and asked[key] not in ({}, [])]
        both = [key for key in asked if key in resolved and key != "class_path"]
        inner = [d for k in both for d in asked_and_resolved(asked[k], resolved[k], f"{at}.{k}")]
        return [f"{at}.{key}" for key in missing] + inner
    if isinstance(asked, list):
        pairs = zip(asked, resolved, strict=True)
        return [d for i, (a, r) in enumerate(pairs) for d in asked_and_resolved(a, r, f"{at}[{i}]")]
    if at == ".seed_everything" and asked is True:
        return []  # Lightning draws the seed itself
    same = asked == resolved or str(asked) == str(resolved) or asked != asked
    with contextlib.suppress(TypeError, ValueError):
        same = same or float(asked) == float(resolved)
    return [] if same else [f"{at}: {asked!r} became {resolved!r}"]


def try_out(contents, folder, monkeypatch):
    """Problems of the command with a configuration file; empty if there are none."""
    path = folder / "config.yaml"
    path.write_bytes(contents)
    seen = {}
    parsed = cli.CommandLine.before_instantiate_classes

    def keep(self):
        seen["config"] = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        parsed(self)

    def start(trainer, model, datamodule=None, **_):
        datamodule.setup("fit")
        raise StartedError

    monkeypatch.setattr(cli.CommandLine, "before_instantiate_classes", keep)
    monkeypatch.setattr(lightning.Trainer, "fit", start)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = cli.main(["fit", "--config", str(path)])
        except StartedError:
            return asked_and_resolved(yaml.safe_load(contents) or {}, seen["config"]["fit"])
        except BaseException as error:
            return [f"raised {error!r}"]
    lines = [line for line in said.getvalue().splitlines() if line.startswith("rl_lightning: ")]
    if status not in (1, 2) or len(lines) != 1 or "Traceback" in said.getvalue():
        return [f"exit status {status} with {said.getvalue()!r}"]
    return []


@pytest.fixture
def try_out_apart(tmp_path, store, monkeypatch):
    """Try files, each in a separate process with limits of memory and time."""
    context = multiprocessing.get_context("fork")

    def run(contents, folder, answers):
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        answers.put(try_out(contents, folder, monkeypatch))

    def begin(number, contents):
        folder, answers = tmp_path / str(number), context.Queue()
        folder.mkdir()
        process = context.Process(target=run, args=(contents, folder, answers))
        process.start()
        return process, answers

    def complaints(process, answers):
        try:
            return answers.get(timeout=SECONDS)
        except queue.Empty:
            return [f"no answer within {SECONDS} s, exit code {process.exitcode}"]
        finally:
            process.kill()
            process.join()

    def run_all(files):
        found = []
        for first in range(0, len(files), 2):  # two at a time, for two cores
            both = [begin(first + i, each) for i, each in enumerate(files[first : first + 2])]
            found += [complaints(*each) for each in both]
        return found

    return run_all


@pytest.mark.parametrize("chunk", sample(range(CHUNKS), *range(2)))
def test_a_broken_configuration_is_refused_in_one_line_or_trains_as_it_says(chunk, try_out_apart):
    files = [mutated(random.Random(1000 * chunk + case)) for case in range(CASES_OF_A_CHUNK)]
    wrong = [
        f"{contents.decode(errors='replace')}\n{complaints}"
        for contents, complaints in zip(files, try_out_apart(files), strict=True)
        if complaints
    ]
    assert not wrong, "\n\n".join(wrong)
