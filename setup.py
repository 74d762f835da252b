"""What pyproject.toml cannot say: a ``.pth`` file beside the packages of a regular install."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LINE = "import understudy_beside; understudy_beside.install()\n"


class WithStart(build_py):
    """Builds the packages, and ``understudy.pth``; see ``understudy_beside.py``."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            Path(self.build_lib, "understudy.pth").write_text(LINE, encoding="utf-8")

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib, "understudy.pth"))]


setup(cmdclass={"build_py": WithStart})
