"""An invented run for the tests of the report: every section of it is filled."""

from __future__ import annotations

import math

import numpy as np

from search.report.record import (
    CandidateRow,
    Figure,
    LayerRow,
    RankingFacts,
    RouterRow,
    RunRecord,
    StudentFacts,
    TeacherFacts,
)

NAN = math.nan


def invented(candidates: int = 24, layers: int = 18, seed: int = 0) -> RunRecord:
    """A run with every section filled."""
    rng = np.random.default_rng(seed)
    kb = np.exp(rng.uniform(np.log(150), np.log(6000), candidates))
    accuracy = 0.995 - 0.05 * np.exp(-kb / 500) - rng.exponential(0.004, candidates)
    rows = tuple(
        CandidateRow(
            number=i,
            accuracy=None if i % 11 == 5 else float(accuracy[i]),
            kb=float(kb[i]),
            macs=int(kb[i] * 9e4),
            reward=0.0 if i % 11 == 5 else float(np.exp(60 * (accuracy[i] - 0.985) - kb[i] / 4e3)),
            within_limits=bool(kb[i] < 2200 and accuracy[i] > 0.984),
            seconds=float(rng.uniform(20, 60)),
            status="failed" if i % 11 == 5 else "done",
            reason="the loss is no number after 31 steps" if i % 11 == 5 else "",
        )
        for i in range(candidates)
    )
    winner = max(rows, key=lambda row: (row.within_limits, row.reward))
    stages = [f"layer{1 + i * 4 // layers}.{i // 2 % 2}.conv{1 + i % 2}" for i in range(layers)]
    before = np.sort(rng.uniform(0.5, 9.0, layers) ** 3 + 4)
    phi = rng.choice([0.0, 0.1, 0.2, 0.4, 0.6, 1.0], layers)
    shapes = tuple(
        LayerRow(
            name=stages[i],
            kind="convolution",
            before="3×3, 64 → 128, /2",
            after="" if phi[i] == 0 else f"3×3, 64 → {math.ceil(128 * phi[i])}, /2",
            coefficient=None if i == layers - 1 else float(phi[i]),
            kb_before=float(before[i]),
            kb_after=float(before[i] * phi[i] ** 2),
        )
        for i in range(layers)
    )
    rate = np.linspace(0, 1, 2001)
    oracle = np.minimum.reduce([0.9921 + rate, np.full(2001, 0.9986), 0.9986 - (rate - 0.998)])
    lifted = 0.9921 + 0.0042 * rate
    curves = {
        "margin": (rate, lifted + 0.0030 * (1 - np.exp(-18 * rate)) * (1 - rate)),
        "svm": (rate, lifted + 0.0024 * (1 - np.exp(-12 * rate)) * (1 - rate)),
        "max_softmax": (rate, lifted + 0.0028 * (1 - np.exp(-15 * rate)) * (1 - rate)),
        "oracle": (rate, oracle),
        "random": (rate, lifted),
    }
    return RunRecord(
        title="resnet18_mnist → student",
        command="understudy search --teacher resnet18.safetensors --data mnist --max-kb 2200",
        created="2026-11-20 14:05 UTC",
        seed=seed,
        parts={
            "distillation": 45_000,
            "router": 10_000,
            "validation": 2_500,
            "calibration": 2_500,
            "test": 10_000,
        },
        thresholds={
            "c0": 0.95,
            "a0": 0.984,
            "alpha": 20.0,
            "beta": 15.0,
            "max_kb": 2200.0,
            "max_drop": None,
        },
        teacher=TeacherFacts(
            name="resnet18_mnist",
            kb=43_704.2,
            parameters=11_172_810,
            macs=457_000_000,
            figures=(
                Figure("teacher's accuracy", 0.9940, "validation", 2_500),
                Figure("teacher's accuracy", 0.9963, "test", 10_000),
            ),
        ),
        student=StudentFacts(
            kb=winner.kb, parameters=180_223, macs=winner.macs, actions=tuple(phi.tolist())
        ),
        candidates=rows,
        winner=winner.number,
        layers=shapes,
        routers=(
            RouterRow(
                "margin", "score", 0.9957, 0.9949, 0.9964, 0.961, 0.34, 4.5, "", 0.9961, 0.047
            ),
            RouterRow("svm", "family", 0.9954, 0.9946, 0.9961, 0.944, 60.1, 13.8, tied=True),
            RouterRow("et", "family", NAN, NAN, NAN, NAN, 0, NAN, "not fitted: 12 errors"),
        ),
        router_name="margin",
        threshold=0.83123,
        curves=curves,
        operating_point=(0.05, 0.9946),
        confusion=((9_471, 450), (29, 50)),
        figures=(
            Figure("student's accuracy", 0.9921, "test", 10_000),
            Figure("pair's accuracy", 0.9946, "test", 10_000),
            Figure("appeals", 0.05, "test", 10_000),
            Figure("won back of the gap (AccI)", 0.595, "test", 10_000),
            Figure("appeals", 0.0492, "calibration", 2_500),
            Figure("time of one input", 0.41, "test", 200, "ms"),
            Figure("student.onnx", 415.2, "test", 10_000, "KB"),
        ),
        ranking=RankingFacts(71, 9_091, 0.9974, 0.9943),
        warnings=("CIFAR-10 is the JPEG copy: compare with its own teacher only.",),
    )
