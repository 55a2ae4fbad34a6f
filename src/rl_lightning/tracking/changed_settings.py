"""Compares the configuration of a resumed run with the one that it had."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# They say how long a run trains and what is shown and kept of it.
_FREE = (
    "ckpt_path",
    "config",
    "num_threads",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.logger",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.min_epochs",
    "trainer.min_steps",
    "weights_path",
)


class ChangedSetting(NamedTuple):
    """A setting that differs: its flag, the value that the run had, and the new one."""

    flag: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.flag} was {self.before} and is {self.now}"


def changed_settings(run: Path, config: Mapping[str, Any]) -> list[ChangedSetting]:
    """The settings that differ from those of a run.

    Args:
        run: The run's folder. Without a readable `config.yaml` in it, nothing differs.
        config: The resolved configuration, as in the YAML file.
    """
    try:
        before = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    return [*_changed(before, config)] if isinstance(before, Mapping) else []


def _changed(before: Any, now: Any, flag: str = "") -> Iterator[ChangedSetting]:
    if flag in _FREE:
        return
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        # Another version of this package may have other options. Other mappings, such as
        # env_kwargs, have only the keys that were given.
        typed = "class_path" in now or not flag or flag == "trainer"
        is_options = typed or flag.endswith(".init_args")
        keys = now.keys() & before.keys() if is_options else now.keys() | before.keys()
        for key in sorted(keys, key=str):
            yield from _changed(before.get(key), now.get(key), f"{flag}.{key}" if flag else key)
    elif before != now and not (before != before and now != now):
        yield ChangedSetting(flag.replace(".init_args", "").replace(".class_path", ""), before, now)
