"""A contender of the league: PPO of rejax on gymnax's CartPole, compiled as a whole.

    python rejax_gymnax.py cartpole SEED

The number of environment steps is fixed when it is compiled. So a first process finds the first
evaluation that reaches the goal, and its steps are given to the process that is measured:

    python rejax_gymnax.py cartpole SEED STEPS
"""

import sys
import time
from typing import Any

import jax
from jax import numpy as jnp
from measured import report
from rejax import PPO
from rejax.evaluate import evaluate

GOAL, EPISODES, EVERY, MOST_STEPS = 475.0, 20, 8_192, 409_600
# The settings of rejax's own configuration for CartPole.
SETTINGS = {
    "env": "CartPole-v1",
    "agent_kwargs": {"activation": "swish"},
    "num_envs": 64,
    "num_steps": 32,
    "num_epochs": 4,
    "num_minibatches": 16,
    "learning_rate": 5e-4,
    "max_grad_norm": 0.5,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
}


def play(algorithm: Any, state: Any, key: jax.Array) -> jax.Array:
    """The returns of episodes under the policy, which samples its actions."""
    act, environment, parameters = algorithm.make_act(state), algorithm.env, algorithm.env_params
    limit = parameters.max_steps_in_episode
    return evaluate(act, key, environment, parameters, EPISODES, limit)[1]


def main() -> None:
    seed, steps = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else MOST_STEPS
    algorithm = PPO.create(total_timesteps=steps, eval_freq=EVERY, **SETTINGS)
    algorithm = algorithm.replace(eval_callback=play)
    train = jax.jit(algorithm.train)
    key = jax.random.PRNGKey(seed)
    compiling = time.time()
    compiled = train.lower(key).compile()
    first_step = time.time()
    returns = jnp.asarray(jax.block_until_ready(compiled(key))[1]).mean(axis=1)
    reached = [int(index) for index in jnp.flatnonzero(returns >= GOAL)]
    report(
        first_step=first_step,
        end=time.time(),
        compiling=first_step - compiling,
        evaluating=0.0,
        env_steps=(reached[0] if reached else len(returns) - 1) * EVERY,
        env_steps_per_second=steps / (time.time() - first_step),
        reached=bool(reached),
    )


if __name__ == "__main__":
    main()
