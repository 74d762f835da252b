"""The study, a line at a time: what is finished stands in a file and is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality import lines
from benchmarks.routing import appealnet, choice, contenders, making, remedies, verdict
from benchmarks.routing.contenders import Fits, Line
from benchmarks.routing.draws import Draw, draw
from benchmarks.routing.pairs import Pair
from edge.timing import least_ms
from routers.models.scores import SCORES

OUT = Path("runs/routers")
#: routers of this seed are kept, so that they can be timed side by side
TIMED_SEED = 0
ROUNDS = 12


@dataclass(frozen=True)
class Plan:
    """What is done: seeds of the draw, fits, and whether remedies are tried."""

    seeds: tuple[int, ...]
    fits: tuple[Fits, ...]
    remedies: tuple[str, ...]
    out: Path = OUT

    def file(self, pair: Pair) -> Path:
        """Of the lines about this very pair."""
        about = json.dumps(pair.about, sort_keys=True).encode()
        digest = hashlib.sha256(about + pair.logits.tobytes() + pair.teacher_right.tobytes())
        return self.out / f"{pair.name}-{digest.hexdigest()[:8]}.jsonl"


def run(pairs: Sequence[Pair], plan: Plan) -> list[Line]:
    """Do what is left to do; the lines of this plan, old and new."""
    plan.out.mkdir(parents=True, exist_ok=True)
    # choices first: they are what the study is about; and seed by seed, so that a part of it is
    # a smaller study
    for seed in plan.seeds:
        for pair in pairs:
            _choose(pair, seed, plan)
    for seed in plan.seeds:
        for pair in pairs:
            _contend(pair, seed, plan)
    for seed in plan.seeds:
        for pair in pairs:
            _look_back(pair, seed, plan)
    for pair in pairs:
        _time(pair, plan)
    return finished(pairs, plan)


def finished(pairs: Sequence[Pair], plan: Plan) -> list[Line]:
    """The lines of this plan that are there, and that today's routers would write again."""
    return [line for pair in pairs for line in _known(pair, plan).values()]


def _known(pair: Pair, plan: Plan) -> dict[tuple[int, str, str], Line]:
    """(seed, kind, router) → the last line that today's code would write again."""
    today = {
        "choice": choice.of_choice(),
        "tuned": choice.of_choice(),
        "hindsight": choice.of_choice(),
        "family": contenders.of_fits(),
        "score": contenders.of_scores(),
        "remedy": remedies.of_remedies(),
        **dict.fromkeys(appealnet.KINDS, appealnet.made_of()),
    }
    wanted = {name for fits in plan.fits for name in fits.names}
    wanted |= {*SCORES, *plan.remedies}
    found = {}
    for line in lines.rows(plan.file(pair)):
        kind, name = line["kind"], line["router"]
        asked = kind in ("choice", "tuned", "hindsight", *appealnet.KINDS) or name in wanted
        if line["seed"] not in plan.seeds or not asked:
            continue
        if kind not in today or line["made_of"] == today[kind]:
            found[line["seed"], kind, "" if kind == "choice" else name] = line
    return found


def _choose(pair: Pair, seed: int, plan: Plan) -> None:
    if (seed, "choice", "") in _known(pair, plan):
        return
    start = time.perf_counter()
    student = choice.untrained(pair.network, plan.out / f"{pair.name}.onnx")
    *tuned, line = choice.lines(draw(pair, seed), student)
    for one in (*tuned, line):  # the choice last: it says that all the others are there
        lines.append(plan.file(pair), one)
    making.say(
        f"{pair.name} seed {seed}: {line['router']} {line['area']:.5f}, "
        f"{line['baseline']} {line['baseline_area']:.5f}, {time.perf_counter() - start:.0f} s"
    )


def _contend(pair: Pair, seed: int, plan: Plan) -> None:
    known, start = _known(pair, plan), time.perf_counter()
    of = draw(pair, seed)
    made = 0
    for line, model in _left(of, known, plan):
        lines.append(plan.file(pair), line)
        made += 1
        if seed == TIMED_SEED and model:
            _model(pair, line["router"], plan).write_bytes(model)
    if made:
        making.say(f"{pair.name} seed {seed}: {made} lines, {time.perf_counter() - start:.0f} s")


def _look_back(pair: Pair, seed: int, plan: Plan) -> None:
    """The best of all by test against the choice; anew where another one is the best by now."""
    known = _known(pair, plan)
    best = verdict.hindsight(known.values(), seed)
    if (seed, "hindsight", best["router"]) not in known:
        winner = known[seed, "choice", ""]
        lines.append(plan.file(pair), choice.looked_back(draw(pair, seed), best, winner))


def _left(
    of: Draw, known: dict[tuple[int, str, str], Line], plan: Plan
) -> Iterator[tuple[Line, bytes]]:
    if any((of.seed, "score", name) not in known for name in SCORES):
        yield from contenders.scored(of)
    for fits in plan.fits:
        families = tuple(
            family
            for family, name in zip(fits.families, fits.names, strict=True)
            if (of.seed, "family", name) not in known
        )
        if families:
            yield from contenders.fitted(of, Fits(fits.features, fits.sampling, families))
    if plan.remedies and any((of.seed, *one) not in known for one in appealnet.LINES):
        yield from ((line, b"") for line in appealnet.lines(of.pair, of.seed))
    for name in plan.remedies:
        if (of.seed, "remedy", name) not in known:
            tried = remedies.tried(of, name)
            if tried is not None:
                yield tried, b""


def _model(pair: Pair, router: str, plan: Plan) -> Path:
    folder = plan.out / plan.file(pair).stem
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{router.replace('/', '-')}.onnx"


def _time(pair: Pair, plan: Plan) -> None:
    """Microseconds of every router of one seed, batch 1, one thread, taken in turns."""
    known = _known(pair, plan)
    names = [
        name
        for (seed, kind, name), line in known.items()
        if seed == TIMED_SEED and kind in ("score", "family") and not line.get("reason")
        and (TIMED_SEED, "time", name) not in known and _model(pair, name, plan).exists()
    ]  # fmt: skip
    if not names:
        return
    width = pair.logits.shape[1]
    graphs = [choice.in_memory(_model(pair, name, plan).read_bytes(), (width,)) for name in names]
    *_, (_, least) = least_ms(graphs, ROUNDS)
    for name, ms in zip(names, least, strict=True):
        line = {"pair": pair.name, "seed": TIMED_SEED, "router": name, "kind": "time"}
        lines.append(plan.file(pair), line | {"us": 1000 * ms})
