"""A league of packages on this machine: each in an environment and a process of its own.

    python benchmarks/league.py cartpole --repeats 5 --out docs/runs/league_cartpole.csv

Works: `cartpole` (a greedy 475 over 20 episodes), `pendulum` (−200 over 20), `halfcheetah` (5,000
over 5) and `halfcheetah_speed` (environment steps per second of SAC). The contenders run in turn,
one core and one thread each. `seconds` counts from the start of the process, with imports,
compilation and evaluations. `seconds_of_training` counts from the first environment step, without
evaluations (rejax: without compilation and with evaluations, because they are compiled together).
The virtual environments of the peers are made on first use in the folder `--environments`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any, NamedTuple

from rl_lightning.tracking.tables import write_table

PEERS = Path(__file__).resolve().parent / "peers"
REQUIREMENTS = {
    "sb3_sbx": ("sbx-rl==0.28.0", "stable-baselines3==2.9.2", "gymnasium[mujoco]<1.4"),
    # rejax 0.1.3 does not run with gymnax 1.0.
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9"),
}


class Contender(NamedTuple):
    """A package with an algorithm, and the command that trains it."""

    name: str
    script: str
    arguments: tuple[str, ...]
    environment: str | None = None  # one of REQUIREMENTS; None is the running interpreter's


def _ours(name: str, work: str) -> Contender:
    return Contender(f"rl_lightning, {name}", "rl_lightning_command.py", (work,))


def _theirs(package: str, name: str, work: str) -> Contender:
    script = "stable_baselines3_or_sbx.py"
    return Contender(f"{package}, {name}", script, (package, work), "sb3_sbx")


_SB3, _SBX = "stable_baselines3", "sbx"
WORKS = {
    "cartpole": (
        _ours("A2C", "cartpole_a2c"),
        _ours("DQN", "cartpole_dqn"),
        _ours("PPO", "cartpole_ppo"),
        _ours("PQN", "cartpole_pqn"),
        _theirs(_SB3, "DQN", "cartpole_dqn"),
        _theirs(_SB3, "A2C", "cartpole_a2c"),
        _theirs(_SB3, "PPO", "cartpole_ppo"),
        _theirs(_SBX, "PPO", "cartpole_ppo"),
        Contender("rejax, PPO", "rejax_gymnax.py", ("cartpole",), "rejax"),
    ),
    "pendulum": (
        _ours("SAC", "pendulum"),
        _theirs(_SB3, "SAC", "pendulum"),
        _theirs(_SBX, "SAC", "pendulum"),
    ),
    "halfcheetah_speed": (
        _ours("SAC, equal settings", "halfcheetah_speed_equal"),
        _ours("SAC, as configured", "halfcheetah_speed"),
        _theirs(_SB3, "SAC", "halfcheetah_speed"),
        _theirs(_SBX, "SAC", "halfcheetah_speed"),
    ),
    "halfcheetah": (
        _ours("SAC", "halfcheetah"),
        _theirs(_SBX, "SAC", "halfcheetah"),
    ),
}


def interpreter(environment: str | None, folder: Path) -> str:
    """The Python of a virtual environment, which is made and filled on first use."""
    if environment is None:
        return sys.executable
    python = folder / environment / "bin" / "python"
    if not python.exists():
        venv.create(folder / environment, with_pip=True)
        command = [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[environment]]
        subprocess.run(command, check=True)
    return str(python)


def measure(contender: Contender, seed: int, folder: Path) -> dict[str, Any]:
    """Run a contender in an empty folder on one core; what it measured."""
    command = [interpreter(contender.environment, folder), str(PEERS / contender.script)]
    command += [*contender.arguments, str(seed)]
    if contender.environment == "rejax":  # see rejax_gymnax.py
        command.append(str(max(_run(command)[0]["env_steps"], 1)))
    measured, start = _run(command)
    return {
        "contender": contender.name,
        "seed": seed,
        "reached": measured["reached"],
        "seconds": round(measured["end"] - start, 2),
        "seconds_of_training": round(
            measured["end"] - measured["first_step"] - measured["evaluating"], 2
        ),
        "seconds_of_compilation": round(measured.get("compiling", 0.0), 2),
        "env_steps": measured["env_steps"],
        "env_steps_per_second": round(measured["env_steps_per_second"], 1),
    }


def _run(command: list[str]) -> tuple[dict[str, Any], float]:
    with tempfile.TemporaryDirectory() as empty:
        start = time.time()
        process = subprocess.run(
            command,
            cwd=empty,
            env={**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, {0}),
            capture_output=True,
            text=True,
        )
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr}")
    measured: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return measured, start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--environments", type=Path, default=Path(".league"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in range(1, arguments.repeats + 1):
        for contender in WORKS[arguments.work]:
            rows.append(measure(contender, seed, arguments.environments.resolve()))
            print(rows[-1], flush=True)
            write_table(arguments.out, rows)
    for contender in WORKS[arguments.work]:
        own = [row for row in rows if row["contender"] == contender.name]
        medians = [
            f"{statistics.median(row[key] for row in own):,.1f} {key}"
            for key in ("seconds", "seconds_of_training", "env_steps_per_second")
        ]
        reached = sum(row["reached"] for row in own)
        print(f"{contender.name}: {reached} of {len(own)} reached, {', '.join(medians)}")


if __name__ == "__main__":
    main()
