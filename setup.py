"""Copies the configurations, which are at the top of the project, into the built package."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigurations(build_py):
    """Builds the package with `rl_lightning/configs`. An editable installation has no copy."""

    def run(self) -> None:
        """Copy the configurations beside the built package."""
        super().run()
        if not self.editable_mode:
            configs = Path(__file__).parent / "configs"
            copytree(configs, Path(self.build_lib, "rl_lightning", "configs"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigurations})
