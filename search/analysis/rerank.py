"""Other weights, thresholds and limits over the candidates that a run has paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from envs.reward import ThresholdReward
from search.analysis.scored_trials import Run, Standings, standings
from search.job.spec import make_spec

#: rows of the table
TOP = 10

_PAPER = (
    "under --reward paper C0 and A0 do nothing here: in Eq. 7 they multiply every reward by the "
    "same factor, so they cancel out of the order; --reward threshold lets them bind"
)
_N2N = "--reward n2n has no weights and no thresholds; --reward threshold has some that bind"
_ACCURATE = (
    "--target accurate with A0 at 1 orders by accuracy alone, within the limits: weights and C0 do "
    "nothing here; --target balanced, or a lower --a0, lets them bind"
)
_UNTIMED = (
    "the ledger does not know milliseconds: this is the order without --max-ms and without the "
    "latency factor"
)


@dataclass(frozen=True)
class Reranking:
    """A run's candidates before and after a change.

    Attributes:
        before, after: under the run's own values, and under the new ones.
    """

    before: Standings
    after: Standings

    @property
    def changed(self) -> bool:
        """Whether another candidate wins."""
        return self.before.winner != self.after.winner

    def result(self, top: int = TOP) -> dict[str, Any]:
        """Everything as JSON values."""
        before, after = self.before, self.after
        return {
            "run": str(after.run.folder.root),
            "candidates": len(after.run.columns),
            "teacher": {"kb": after.run.facts.kb, "accuracy": after.run.facts.accuracy},
            "changed": self.changed,
            "before": before.setting() | {"winner": before.row(before.winner)},
            "after": after.setting() | {"winner": after.row(after.winner)},
            "why": why(self),
            "table": [after.row(int(index)) for index in after.order[:top]],
        }


def rerank(run: Run, given: Mapping[str, Any]) -> Reranking:
    """Put a run's candidates in the order of another reward.

    Args:
        run: its candidates are not touched.
        given: fields of the job that change, such as ``alpha`` or ``max_kb``.

    Raises:
        BadInput: a value that cannot be used, or a limit that no candidate keeps.
    """
    spec = make_spec(run.spec.model_dump() | dict(given))
    found = Reranking(standings(run, run.spec), standings(run, spec))
    assert found.before.winner >= 0  # refuses where nobody may win
    assert found.after.winner >= 0
    return found


def why(found: Reranking) -> list[str]:
    """Sentences: which threshold binds at the winner, what moved it, what the next best lacks."""
    after = found.after
    told = {"paper": [_PAPER], "n2n": [_N2N]}
    said = told.get(after.spec.reward)
    said = said or ([_ACCURATE] if after.by_accuracy else _binding(after))
    spec = after.spec
    if spec.max_ms is not None or spec.gamma > 0 or spec.target == "fastest":
        said = [_UNTIMED, *said]
    if found.changed:
        said.append(_trade(found))
    else:
        said.append(f"candidate {after.winner + 1} stays the winner")
    if len(after.order) > 1:
        said.append(_next_best(after))
    return said


def _binding(found: Standings) -> list[str]:
    """Where the winner stands to C0 and A0, and what that means for its slopes."""
    run, reward, row = found.run, found.reward, found.row(found.winner)
    assert isinstance(reward, ThresholdReward)
    c0_kb = (1 - reward.c0) * run.facts.kb
    rho, lines = reward.rho, []
    for name, value, least, weight, where in (
        ("C0", row["compression"], reward.c0, reward.alpha, f"{row['kb']:,.1f} KB"),
        ("A0", row["expected"], reward.a0, reward.beta, f"expected {row['expected']:.2%}"),
    ):
        bound = f"{c0_kb:,.1f} KB" if name == "C0" else f"{least:.2%}"
        if value < least:
            lines.append(
                f"{name} binds: the winner's {where} misses {bound}, so it counts with the whole "
                f"weight {weight:g}"
            )
        else:
            lines.append(
                f"{name} is met: the winner's {where} keeps {bound}, so more counts with "
                f"{rho:g} × {weight:g} = {rho * weight:g} only"
            )
    return lines


def _trade(found: Reranking) -> str:
    """What the new winner gains by size and by accuracy over the old one."""
    after, old, new = found.after, found.before.winner, found.after.winner
    if not after.eligible[old]:
        row = after.row(old)
        return (
            f"candidate {new + 1} wins: {old + 1}, with {row['kb']:,.1f} KB and {row['macs']:,} "
            "MACs, is beyond the limits on cost"
        )
    if after.by_accuracy:
        return (
            f"candidate {new + 1} overtakes {old + 1}: {float(after.expected[new]):.2%} against "
            f"{float(after.expected[old]):.2%}"
        )
    log, C = after.reward.log, after.compression
    a_old, a_new = float(after.expected[old]), float(after.expected[new])
    by_size = log(a_old, float(C[new])) - log(a_old, float(C[old]))
    by_accuracy = log(a_new, float(C[new])) - log(a_old, float(C[new]))
    return (
        f"candidate {new + 1} overtakes {old + 1}: {by_size:+.3f} for its size and "
        f"{by_accuracy:+.3f} for its expected accuracy, in the logarithm of the reward"
    )


def _next_best(found: Standings) -> str:
    """The accuracy, or the size, at which the second would win."""
    second, facts = int(found.order[1]), found.run.facts
    if found.by_accuracy:
        kb, expected = float(found.run.columns.kb[second]), float(found.expected[second])
        lead = (float(found.expected[found.winner]) - expected) * 100
        said = f"next is candidate {second + 1} ({kb:,.1f} KB, {expected:.2%})"
        return f"{said}: {lead:.2f} points behind"
    log = found.reward.log
    target = log(float(found.expected[found.winner]), float(found.compression[found.winner]))
    accuracy, kb = float(found.expected[second]), float(found.run.columns.kb[second])
    ratio = float(found.compression[second])
    needs = []
    better = _least(lambda a: log(a, ratio) >= target, accuracy, 1.0)
    if better is not None:
        needs.append(f"{better:.2%} ({(better - accuracy) * 100:+.2f} points)")
    smaller = _least(lambda c: log(accuracy, c) >= target, ratio, 1.0)
    if smaller is not None:
        needs.append(f"{(1 - smaller) * facts.kb:,.1f} KB or less")
    said = f"next is candidate {second + 1} ({kb:,.1f} KB, expected {accuracy:.2%})"
    return f"{said}: it would need {' or '.join(needs) or 'both more accuracy and less size'}"


def _least(enough: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least value in [low, high] that is enough; a reward rises with both its arguments."""
    if not enough(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
