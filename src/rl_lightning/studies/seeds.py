"""The command `seeds`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_lightning.command_line.arguments import arguments_of_test
from rl_lightning.studies.statistics import FEWEST_FOR_INTERVAL, ScoreStatistics, score_statistics
from rl_lightning.studies.study import CHECKPOINTS, Ending, Study
from rl_lightning.studies.subject import Subject
from rl_lightning.studies.trial_table import Trial


class Seeds(Study):
    """One configuration with several seeds. The last and the best checkpoints are tested."""

    name = "seeds"
    summary = (
        "Train a configuration with several seeds, test the last and the best checkpoint of each, "
        "and summarise them."
    )
    own_flags = ("--ckpt_path", "--seed_everything")

    @staticmethod
    def add_options(parser: argparse.ArgumentParser, number: dict[str, Any]) -> None:
        """Add the seeds and the episodes of tests."""
        parser.add_argument("--seeds", default=5, **number, help="number of seeds (default: 5)")
        parser.add_argument("--first_seed", type=int, default=1, help="the first one (default: 1)")
        parser.add_argument(
            "--test_episodes", **number, help="episodes of each test (default: data.eval_episodes)"
        )

    def prepare(self, subject: Subject, folder: Path) -> None:
        """Set the arguments of `test`: those of `fit` that it has too, and the episodes."""
        super().prepare(subject, folder)
        episodes = self.options.test_episodes
        more = [] if episodes is None else [f"--data.eval_episodes={episodes}"]
        self.test = [*arguments_of_test(self.arguments), *more]

    def propose(self, trials: Sequence[Trial]) -> dict[str, Any] | None:
        """The next seed that the study does not have."""
        known = {trial.parameters["seed_everything"] for trial in trials}
        first = self.options.first_seed
        for seed in range(first, first + self.options.seeds):
            if seed not in known:
                return {"seed_everything": seed}
        return None

    def write(self, trials: Sequence[Trial]) -> Ending:
        """Write a row for each seed, and the statistics over all seeds."""
        from rl_lightning.studies import report

        trials = sorted(trials, key=lambda trial: trial.parameters["seed_everything"])
        files = [self.folder / name for name in ("seeds.csv", "curves.csv", "curves.png")]
        report.write_rows(files[0], trials)
        report.write_curves(files[1], trials)
        curves = [trial.curve for trial in trials if trial.curve]
        report.draw_seeds(files[2], curves, self.subject.experiment, str(self.subject.monitor))
        ended = sum(trial.state == "complete" for trial in trials)
        scores, worst = scores_of(trials, self.score, self.sign)
        statistics = {kind: score_statistics(each) for kind, each in scores.items()}
        counted = max(map(len, scores.values()), default=0)
        lines = [f"{ended} of {len(trials)} seeds came to the end"]
        if worst is not None:
            lines.append(
                f"{counted - ended} diverged, and count as the worst score of all runs: {worst:.4g}"
            )
        if counted < len(trials):
            lines.append(f"Incomplete: the statistics are of {counted} of {len(trials)} seeds")
        lines += statistics_table(statistics, scores, self.score)
        metrics = {
            f"{kind}/{self.score}_{name}": value
            for kind, each in statistics.items()
            for name, value in each._asdict().items()
        }
        return Ending(lines, files, {**metrics, "num_seeds": counted}, {})


def scores_of(
    trials: Sequence[Trial], score: str, sign: int
) -> tuple[dict[str, list[float]], float | None]:
    """The test scores of the checkpoints "last" and "best", each with one score for each seed.

    A seed that diverged has no test. It counts as the worst score that any validation or test of
    the study has, because the statistics would be too high without it. A seed that failed
    otherwise, as by a full disk, says nothing about the algorithm, and is left out.

    Args:
        trials: All trials.
        score: Name of the score.
        sign: 1 if a higher score is better, else −1.

    Returns:
        The scores, and the worst score; None if no seed diverged or there is no score.
    """
    ended = [trial.result for trial in trials if trial.state == "complete"]
    kinds = [kind for kind in CHECKPOINTS if ended and all(kind in each for each in ended)]
    scores = {kind: [each[kind][score] for each in ended] for kind in kinds}
    known = [value for trial in trials for _, value, _ in trial.curve if value == value]
    known += [value for each in scores.values() for value in each]
    diverged = sum(trial.result.get("diverged", False) for trial in trials)
    if not diverged or not known:
        return scores, None
    worst = min(known, key=lambda value: sign * value)
    return {kind: each + [worst] * diverged for kind, each in scores.items()}, worst


def statistics_table(
    statistics: dict[str, ScoreStatistics], scores: dict[str, list[float]], score: str
) -> list[str]:
    """The lines of a table with a row for each checkpoint."""
    counted = max(map(len, scores.values()), default=0)
    few = counted < FEWEST_FOR_INTERVAL
    last = "values" if few else "95 % interval of the IQM"
    lines = [f"{'test/' + score:<14}{'mean':>10}{'IQM':>10}    {last} ({counted} seeds)"]
    for kind, (mean, iqm, low, high) in statistics.items():
        values = ", ".join(f"{value:.4g}" for value in scores[kind])
        shown = values if few else f"{low:.4g} to {high:.4g}"
        lines.append(f"{kind:<14}{mean:>10.4g}{iqm:>10.4g}    {shown}")
    return lines
