"""The combinations: whose data, which network, exported how, how small the student may be."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

#: fewer rows than this leave some part of a job with less than a handful of rows a class, of which
#: a warning is due
LEAST_SOUND_ROWS = 1000
#: raised when what :mod:`benchmarks.strange.hand` or a network does changes: teachers are then new
TRAINING = 1
#: from so many rows on the search alone has to be ahead of the uniform student
MANY_ROWS = 5000


@dataclass(frozen=True)
class Case:
    """One stranger.

    Attributes:
        name: of the case.
        data: "digits", "shapes", "mnist" or "cifar10".
        rows: of its training table; None for all.
        form: "folder" or "parquet".
        network, width: the teacher, of :data:`benchmarks.strange.networks.NETWORKS`.
        export: of :mod:`benchmarks.strange.exports`.
        max_kb: of the student.
        taught: rows that the teacher learnt from, where they are more than the stranger still has.
    """

    name: str
    data: str
    rows: int | None
    form: str
    network: str
    width: float
    export: str
    max_kb: float
    taught: int | None = None

    @property
    def count(self) -> int:
        """Training rows as a number."""
        return self.rows or {"mnist": 60_000, "cifar10": 50_000}[self.data]

    @property
    def flip(self) -> bool:
        """Whether a mirrored image is still of its class to whoever trains by hand."""
        return self.data == "cifar10"

    @property
    def sound(self) -> bool:
        """Whether nothing about the case is worth a warning."""
        return self.count >= LEAST_SOUND_ROWS

    def digest(self, *parts: object) -> str:
        """Short and fixed by these values alone; names folders."""
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @property
    def data_folder(self) -> str:
        """Where its data lie, which other cases may share."""
        return _data_folder(self.data, self.rows, self.form)

    @property
    def taught_folder(self) -> str:
        """Where the data lie that its teacher learnt from."""
        return _data_folder(self.data, self.taught or self.rows, self.form)

    @property
    def teacher_folder(self) -> str:
        """Where its teacher lies; weights and file follow from these values."""
        made = (TRAINING, self.taught_folder, self.network, self.width, self.export)
        return f"{self.network}-{self.export}-{self.digest(*made)}"

    @property
    def weights_folder(self) -> str:
        """Where its weights lie, which exports may share."""
        made = (TRAINING, self.taught_folder, self.network, self.width)
        return f"{self.network}-{self.digest(*made)}"


def _data_folder(data: str, rows: int | None, form: str) -> str:
    return f"{data}-{rows or 'all'}-{form}"


CASES = (
    # name, data, training rows, form, network, width, export, --max-kb
    Case("digits-plain-dynamo", "digits", 1000, "folder", "plain", 32, "dynamo", 44),
    Case("digits-plain-unfolded", "digits", 1000, "folder", "plain", 32, "unfolded", 44),
    Case("digits-lenet-script", "digits", 1000, "folder", "lenet", 16, "torchscript", 60),
    Case("digits-group-dynamo", "digits", 1000, "folder", "group", 32, "dynamo", 40),
    Case("digits-preact-script", "digits", 1000, "parquet", "preact", 20, "torchscript", 50),
    Case("digits-depthwise-function", "digits", 1000, "parquet", "depthwise", 48, "function", 30),
    Case("digits-squeeze-preserved", "digits", 1000, "parquet", "squeeze", 24, "preserved", 50),
    Case("digits-plain-keras", "digits", 1000, "folder", "plain", 32, "keras", 40),
    Case("shapes1k-vgg-dynamo", "shapes", 1000, "folder", "vgg", 20, "dynamo", 60),
    Case("shapes1k-bare-script", "shapes", 1000, "folder", "bare", 24, "torchscript", 50),
    Case("shapes1k-resnet-unfolded", "shapes", 1000, "parquet", "resnet", 20, "unfolded", 50),
    Case("shapes6k-resnet-dynamo", "shapes", 6000, "folder", "resnet", 20, "dynamo", 50),
    Case("shapes6k-squeeze-script", "shapes", 6000, "folder", "squeeze", 20, "torchscript", 40),
    Case("shapes6k-plain-keras", "shapes", 6000, "parquet", "plain", 32, "keras", 40),
    Case("mnist300-plain-dynamo", "mnist", 300, "parquet", "plain", 24, "dynamo", 40),
    Case("mnist300-resnet-function", "mnist", 300, "parquet", "resnet", 16, "function", 40, 5000),
    Case("mnist1k-bare-dynamo", "mnist", 1000, "parquet", "bare", 24, "dynamo", 40),
    Case("mnist1k-preact-dynamo", "mnist", 1000, "parquet", "preact", 16, "dynamo", 40),
    Case("mnist5k-depthwise-unfolded", "mnist", 5000, "parquet", "depthwise", 40, "unfolded", 24),
    Case("mnist5k-group-function", "mnist", 5000, "parquet", "group", 24, "function", 40),
    Case("mnist5k-vgg-script", "mnist", 5000, "parquet", "vgg", 16, "torchscript", 50),
    Case("mnist-plain-dynamo", "mnist", None, "parquet", "plain", 24, "dynamo", 30),
    Case("mnist-lenet-script", "mnist", None, "parquet", "lenet", 12, "torchscript", 50),
    Case("cifar300-vgg-preserved", "cifar10", 300, "parquet", "vgg", 24, "preserved", 80, 5000),
    Case("cifar1k-resnet-script", "cifar10", 1000, "parquet", "resnet", 20, "torchscript", 60),
    Case("cifar5k-preact-dynamo", "cifar10", 5000, "parquet", "preact", 20, "dynamo", 80),
    Case("cifar5k-squeeze-function", "cifar10", 5000, "parquet", "squeeze", 20, "function", 80),
    Case("cifar-resnet-dynamo", "cifar10", None, "parquet", "resnet", 16, "dynamo", 60),
    Case("cifar-depthwise-unfolded", "cifar10", None, "parquet", "depthwise", 48, "unfolded", 40),
)  # fmt: skip

#: eight of them that take a quiet pair of cores less than 20 minutes
QUICK = (
    "digits-plain-dynamo",
    "digits-lenet-script",
    "digits-group-dynamo",
    "digits-preact-script",
    "digits-depthwise-function",
    "digits-plain-keras",
    "shapes1k-vgg-dynamo",
    "mnist300-plain-dynamo",
)
BY_NAME = {case.name: case for case in CASES}
