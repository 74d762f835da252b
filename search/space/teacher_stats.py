"""What a run knows of its teacher, for readers that have neither teacher nor data at hand."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from edge.errors import BadInput
from edge.files import write_bytes
from search.job.run_folder import RunFolder
from search.job.spec import JobSpec
from search.space.learning_curve import Expectation


@dataclass(frozen=True)
class Facts:
    """The teacher's side of every comparison.

    Attributes:
        bytes, parameters, macs: of the teacher, as in :mod:`envs.compression.cost`.
        accuracy: of the teacher on the validation part, by the job's metric.
        rows: of the validation part.
        classes: that there are to tell apart.
        layers: names of the weight layers.
        pool: coefficients.
        images: that a candidate sees in an epoch of its proxy.
        full: images of the whole full training.
        gain: g of :mod:`search.space.learning_curve`, as the job's plain students showed it; None
            where the job names it, or they were not trained yet.
        spread: of expected accuracies, see there.
        guess: accuracy of one who always names the most frequent class of the validation part; None
            from an earlier version.
        proxy_epochs: of a candidate; None from an earlier version, or before the pilots.
        normalise: whether students get batch norms for the time of their training.
        pilots: plain students that the ledger begins with.
    """

    bytes: int
    parameters: int
    macs: int
    accuracy: float
    rows: int
    classes: int
    layers: tuple[str, ...]
    pool: tuple[float, ...]
    images: int
    full: int
    gain: float | None = None
    spread: float = 0.0
    guess: float | None = None
    proxy_epochs: int | None = None
    normalise: bool = False
    pilots: int = 0

    @property
    def kb(self) -> float:
        """Kilobytes of 1,024 bytes."""
        return self.bytes / 1024

    @property
    def chance(self) -> float:
        """Accuracy of a guess among the classes."""
        return 1 / self.classes

    def expectation(self, gain: float | None) -> Expectation:
        """From the accuracies of proxies to those after the full training.

        Args:
            gain: as the job names it; None takes what pilots showed.
        """
        if gain is None:
            gain = self.gain or 0.0
        return Expectation(
            self.accuracy, self.images, self.full, gain, self.rows, self.guess, self.spread
        )


def write_facts(folder: RunFolder, facts: Facts) -> None:
    """Keep them in the run's folder."""
    write_bytes(folder.facts, (json.dumps(asdict(facts), indent=1) + "\n").encode())


def known_gain(spec: JobSpec, folder: RunFolder) -> float | None:
    """g of :mod:`search.space.learning_curve` as a job names it, or as the pilots of its run
    showed; None before they have flown."""
    if spec.proxy_gain is not None:
        return spec.proxy_gain
    return read_facts(folder).gain if folder.facts.exists() else None


def read_facts(folder: RunFolder) -> Facts:
    """Those of a run.

    Raises:
        BadInput: the run did not get as far as to write them, or they are damaged.
    """
    try:
        found = json.loads(folder.facts.read_text(encoding="utf-8"))
        lists = {name: tuple(found[name]) for name in ("layers", "pool")}
        return Facts(**(found | lists))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(
            "the run says nothing of its teacher",
            value=f"{folder.facts} ({type(error).__name__})",
            bound="facts.json, which a search writes before its first candidate",
            remedy="Go on with the run: `understudy search --resume`, with a higher --budget "
            "if it is finished.",
        ) from None
