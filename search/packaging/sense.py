"""Do the figures of a finished pair make sense? What does not is a named warning.

Each check is a function of counts and shares alone. A warning says what was seen, what the likely
causes are, and what to do. Few rows are no fault: what luck explains is never warned of, but for
one bound that is held against the figures as they stand, :data:`FAR_BELOW`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.job.events import Note

#: a student below this share of its teacher's accuracy is told of, whatever explains it
FAR_BELOW = 0.9
#: a difference between two parts that is told of: in standard errors, and in accuracy
FAR_APART, POINTS = 4.0, 0.05
#: at chance: less of the way from a blind guess to no error than this, and no more than luck gives
LEAST_SKILL, LUCK = 0.25, 3.0

AT_CHANCE, BELOW_TEACHER, ABOVE_TEST = (
    "student-at-chance",
    "student-far-below-teacher",
    "validation-far-above-test",
)
#: warnings beside which no figure of the pair is to be relied on, in a few words that follow "but"
SHORT = {
    "teacher-near-chance": "the teacher is no better than chance",
    "teacher-below-stated": "the teacher is far below what its description states",
    AT_CHANCE: "the student is no better than chance",
    BELOW_TEACHER: "the student is far below its teacher",
    ABOVE_TEST: "validation promises far more than test keeps",
}


@dataclass(frozen=True)
class Blind:
    """How many of ``rows`` answers would be right had they nothing to do with the labels.

    ``mean`` and ``deviation`` are those over all orders of the answers: a student that always names
    one class, however frequent, is blind.
    """

    rows: int
    mean: float
    deviation: float

    @staticmethod
    def of(answers: NDArray[np.integer], labels: NDArray[np.integer]) -> Blind:
        """For N answers and N labels, both classes from 0 on."""
        rows = len(labels)
        if not rows:
            return Blind(0, 0.0, 0.0)
        classes = int(max(answers.max(), labels.max())) + 1
        said = np.bincount(answers, minlength=classes).astype(np.float64)
        true = np.bincount(labels, minlength=classes).astype(np.float64)
        both = said * true
        mean = both.sum() / rows
        if rows == 1:
            return Blind(rows, mean, 0.0)
        # E[A(A−1)]: two different rows are right, of one class or of two
        pairs = (
            both.sum() ** 2 - (both**2).sum() + (said * (said - 1) * true * (true - 1)).sum()
        ) / (rows * (rows - 1))
        return Blind(rows, float(mean), math.sqrt(max(0.0, float(pairs + mean - mean**2))))

    def explains(self, right: int) -> bool:
        """Whether ``right`` right answers show no more than blindness."""
        if self.mean >= self.rows - 0.5:
            return False  # one class, and it is always named: nothing can be told from that
        skill = (right - self.mean) / (self.rows - self.mean)
        return skill < LEAST_SKILL and right - self.mean <= LUCK * self.deviation


@dataclass(frozen=True)
class PartSeen:
    """One part of the data: how many ``rows``, and on how many student and teacher are right;
    ``blind``: what the student's answers would get by chance, and the teacher's."""

    rows: int
    student: int
    teacher: int
    blind: Blind
    blind_teacher: Blind

    @staticmethod
    def of(
        student: NDArray[np.integer], teacher: NDArray[np.integer], labels: NDArray[np.integer]
    ) -> PartSeen:
        """From both networks' answers, N each."""
        return PartSeen(
            rows=len(labels),
            student=int((student == labels).sum()),
            teacher=int((teacher == labels).sum()),
            blind=Blind.of(student, labels),
            blind_teacher=Blind.of(teacher, labels),
        )


def sense_of(parts: Mapping[str, PartSeen], *, unseen: bool, limits: str = "") -> list[Note]:
    """Warnings about what ships.

    Args:
        parts: by name; ``test`` is one of them, and ``validation`` may be.
        unseen: the teacher is said not to have learnt from the validation rows. Where it has, it is
            better there, which is no fault.
        limits: the limits on cost in force, as on a command line.
    """
    test, validation = parts["test"], parts.get("validation")
    chance = at_chance(parts)
    notes = [chance, None if chance else far_below(test, limits)]
    if validation is not None:
        notes.append(far_above(validation, test, unseen))
    return [note for note in notes if note is not None]


def at_chance(parts: Mapping[str, PartSeen]) -> Note | None:
    """Where the student's answers have nothing to do with the images, on any part."""
    blind = {name: part for name, part in parts.items() if part.blind.explains(part.student)}
    if not blind:
        return None
    part = next(iter(blind.values()))
    return _note(
        AT_CHANCE,
        f"the student that ships is right on {_share(part.student, part.rows)} of {part.rows:,} "
        f"rows of the {' and the '.join(blind)} part: no better than chance, as answers that have "
        f"nothing to do with the images would be right on {part.blind.mean / part.rows:.1%}. "
        "Likely causes: too few steps of training (raise --final-epochs, or give more rows), a "
        "limit that leaves next to nothing of the network (raise it), or a teacher whose classes "
        "stand in another order than the data's. Do not ship it.",
    )


def far_below(test: PartSeen, limits: str = "", rows: str = "test rows") -> Note | None:
    """Where the student keeps less than :data:`FAR_BELOW` of the teacher's accuracy on these
    rows."""
    if not test.rows or test.student >= FAR_BELOW * test.teacher:
        return None
    size = f"a limit that is too tight ({limits}: raise it), " if limits else ""
    return _note(
        BELOW_TEACHER,
        f"the student is right on {_share(test.student, test.rows)} of {test.rows:,} {rows}, "
        f"which is less than nine tenths of the teacher's {_share(test.teacher, test.rows)}. "
        f"Likely causes: {size}too few steps of training (raise --final-epochs and "
        "--proxy-epochs), or too few candidates (raise --budget, then --resume).",
    )


def far_above(validation: PartSeen, test: PartSeen, unseen: bool) -> Note | None:
    """Where validation is better than test by more than sampling explains, for either network."""
    apart = [
        (who, getattr(validation, who), getattr(test, who))
        for who in ("student", "teacher")
        if (who == "student" or unseen)
        and apart_by(getattr(validation, who), validation.rows, getattr(test, who), test.rows)
    ]
    if not apart:
        return None
    figures = " and ".join(
        f"the {who} is right on {_share(high, validation.rows)} of {validation.rows:,} validation "
        f"rows and on {_share(low, test.rows)} of {test.rows:,} test rows"
        for who, high, low in apart
    )
    learnt = (
        "rows that are called unseen and that the teacher has learnt from (--teacher-unseen), "
        if any(who == "teacher" for who, *_ in apart)
        else ""
    )
    return _note(
        ABOVE_TEST,
        f"{figures}, more than chance explains. Likely causes: {learnt}validation rows that are "
        "easier than the rest or hold few of the classes (data sorted by class: shuffle them, or "
        "name unseen rows of every class), copies of training rows among them, or a test part "
        "from elsewhere. Trust the figures on test, and neither the ranking of routers nor the "
        "threshold.",
    )


def apart_by(high: int, high_rows: int, low: int, low_rows: int) -> bool:
    """Whether one share of right rows is above another by more than sampling explains.

    By :data:`FAR_APART` standard errors of the two-proportion test, and by :data:`POINTS`.
    """
    if not high_rows or not low_rows:
        return False
    difference = high / high_rows - low / low_rows
    pooled = (high + low) / (high_rows + low_rows)
    error = math.sqrt(pooled * (1 - pooled) * (1 / high_rows + 1 / low_rows))
    return difference > POINTS and difference > FAR_APART * error


def doubt(notes: Iterable[Note], calibration: PartSeen | None = None) -> str:
    """Why no figure of the pair is to be relied on, in a few words; "" where nothing is known."""
    for note in notes:
        if note.name in SHORT:
            return SHORT[note.name]
    if calibration is not None:
        if calibration.blind.explains(calibration.student):
            return SHORT[AT_CHANCE]
        if calibration.blind_teacher.explains(calibration.teacher):
            return SHORT["teacher-near-chance"]
    return ""


def _note(name: str, text: str) -> Note:
    return Note(text, warning=True, name=name)


def _share(right: int, rows: int) -> str:
    return f"{right / rows:.1%}"
