"""The five-layer network of ``envs/gym/toy.py``, compressed by hand under both presets.

    image 1×8×8 → stem 3×3, 10 → [inner 3×3, 20 → outer 3×3, 10] + → down 5×5/2, 10 → mean → head 2

The stem has no bias and a batch norm; the other layers have a bias. Sizes are those of the fp32
state dict: 4 bytes a parameter, and a batch norm adds mean and variance (4 bytes a channel each)
and one counter of 8 bytes.
"""

from __future__ import annotations

import pytest

from envs.compression.cost import Cost, cost
from envs.compression.layers import anatomy
from envs.compression.moves import PRESETS
from envs.compression.resolve import Student, compress
from envs.graph.netspec import NetSpec
from envs.gym.toy import make_toy_env, toy_spec
from envs.reward import PaperReward, ThresholdReward, compression

TEACHER_BYTES = 25_176


@pytest.fixture(scope="module")
def toy() -> NetSpec:
    return toy_spec()


def squeeze(toy: NetSpec, preset: str, coefficients: list[float]) -> Student:
    moves = PRESETS[preset]
    return compress(toy, moves, [moves.pool.index(coefficient) for coefficient in coefficients])


def layers(student: Student) -> dict[str, tuple[int, int, int, int, int]]:
    """Weight layer → its state (l, k, d, p, o) after compression."""
    return {layer.node: layer.state for layer in anatomy(student.spec).layers}


def counted(student: Student) -> tuple[int, int, int]:
    """Parameters, bytes and multiply-accumulates."""
    spent = cost(student.spec)
    return spent.parameters, spent.bytes, spent.macs


def test_the_teacher(toy: NetSpec) -> None:
    # l = 1 for a convolution and 2 for a linear layer, which has k = d = 1 and p = 0
    assert anatomy(toy).states().tolist() == [
        [1, 3, 1, 1, 10],
        [1, 3, 1, 1, 20],
        [1, 3, 1, 1, 10],
        [1, 5, 2, 2, 10],
        [2, 1, 1, 0, 2],
    ]
    # parameters     stem   norm   inner            outer            down             head
    #                1·10·9 2·10   10·20·9 + 20     20·10·9 + 10     10·10·25 + 10    10·2 + 2
    parameters = 90 + 20 + 1_820 + 1_810 + 2_510 + 22
    # maps are 8×8 up to `down`, which writes ⌊(8 + 2·2 − 5) / 2⌋ + 1 = 4 rows and columns
    macs = 90 * 64 + 1_800 * 64 + 1_800 * 64 + 2_500 * 16 + 20
    assert parameters == 6_272
    assert macs == 276_180
    # at most three maps live at once: where inner is rectified, its maps before and after, and the
    # block's input for the add: (20 + 20 + 10) · 64 floats
    assert cost(toy) == Cost(6_272, 4 * 6_272 + 4 * 2 * 10 + 8, 276_180, 4 * 50 * 64)
    assert cost(toy).bytes == TEACHER_BYTES
    assert cost(toy).kb == pytest.approx(24.5859375, abs=1e-9)  # 25,176 / 1,024


def test_the_default_preset(toy: NetSpec) -> None:
    """Φ = {0, .05, .1, .2, .4, .6, .8, 1}; outputs alone are scaled."""
    student = squeeze(toy, "default", [0.4, 0.2, 1, 0.6, 1])
    assert layers(student) == {
        "stem": (1, 3, 1, 1, 4),  # .4 · 10
        "inner": (1, 3, 1, 1, 4),  # .2 · 20
        "outer": (1, 3, 1, 1, 4),  # kept, but it meets the stem's channels, and those are 4
        "down": (1, 5, 2, 2, 6),  # .6 · 10
        "head": (2, 1, 1, 0, 2),
    }
    # parameters  stem    norm  inner         outer         down           head
    #             1·4·9   2·4   4·4·9 + 4     4·4·9 + 4     4·6·25 + 6     6·2 + 2
    parameters = 36 + 8 + 148 + 148 + 606 + 14
    assert parameters == 960
    macs = 36 * 64 + 144 * 64 + 144 * 64 + 600 * 16 + 12
    assert macs == 2_304 + 9_216 + 9_216 + 9_600 + 12 == 30_348
    assert counted(student) == (960, 4 * 960 + 4 * 2 * 4 + 8, 30_348)
    assert cost(student.spec).bytes == 3_880


def test_the_paper_preset(toy: NetSpec) -> None:
    """Φ of Eq. 3, and all of Eq. 4: kernel, stride, padding and outputs are scaled."""
    student = squeeze(toy, "paper", [0.6, 0.8, 0.4, 0.6, 1])
    assert layers(student) == {
        # k: 3 · .6 = 1.8 lies nearer to 1 than to 3; p: the layer kept the size of its maps and
        # goes on to do so, which a 1×1 kernel does without padding; d: ⌊.6 + ½⌋ = 1; o: .6 · 10
        "stem": (1, 1, 1, 0, 6),
        # k: 3 · .8 = 2.4 → 3; o: .8 · 20
        "inner": (1, 3, 1, 1, 16),
        # k: 3 · .4 = 1.2 → 1; its coefficient rules its kernel, the stem's rules its outputs
        "outer": (1, 1, 1, 0, 6),
        # k: 5 · .6 = 3; d: ⌊2 · .6 + ½⌋ = 1, so the maps *grow* to 8×8; p: "same" for 3×3 is 1
        "down": (1, 3, 1, 1, 6),
        "head": (2, 1, 1, 0, 2),
    }
    # parameters  stem    norm  inner            outer          down          head
    #             1·6·1   2·6   6·16·9 + 16      16·6·1 + 6     6·6·9 + 6     6·2 + 2
    parameters = 6 + 12 + 880 + 102 + 330 + 14
    assert parameters == 1_344
    # `down` costs 324 · 64 = 20,736 where stride 2 would have cost 324 · 16 = 5,184
    macs = 6 * 64 + 864 * 64 + 96 * 64 + 324 * 64 + 12
    assert macs == 384 + 55_296 + 6_144 + 20_736 + 12 == 82_572
    assert counted(student) == (1_344, 4 * 1_344 + 4 * 2 * 6 + 8, 82_572)
    assert cost(student.spec).bytes == 5_432


def test_both_rewards_of_both_students() -> None:
    """α = 20, β = 15, C0 = .95, A0 = .9, ρ = .1.

    Default: C = 1 − 3,880 / 25,176 = .845884970, so C − C0 = −.104115030.
    Paper:   C = 1 − 5,432 / 25,176 = .784238958, so C − C0 = −.165761042.
    """
    default, paper = compression(3_880, TEACHER_BYTES), compression(5_432, TEACHER_BYTES)
    assert default == pytest.approx(0.8458849698, abs=1e-9)
    assert paper == pytest.approx(0.7842389577, abs=1e-9)

    # A = .92 is .02 above A0.
    # Eq. 7:       e^(20 · −.104115030 + 15 · .02) = e^(−2.082300604 + .3)  = e^−1.782300604
    # thresholds:  e^(20 · −.104115030 + .1 · .3)  = e^(−2.082300604 + .03) = e^−2.052300604
    eq7, bent = PaperReward(), ThresholdReward()
    assert eq7(0.92, default) == pytest.approx(0.168250624, abs=1e-9)
    assert bent(0.92, default) == pytest.approx(0.128439076, abs=1e-9)

    # A = .85 is .05 below A0, so both exponents are on the steep side and the rewards agree:
    # e^(20 · −.165761042 − 15 · .05) = e^(−3.315220845 − .75) = e^−4.065220845
    assert eq7(0.85, paper) == bent(0.85, paper) == pytest.approx(0.017159199, abs=1e-9)

    # C = .99 is .04 above C0: 20 · .04 = .8 by Eq. 7, a tenth of it beyond the threshold.
    assert eq7(0.9, 0.99) == pytest.approx(2.225540928, abs=1e-9)  # e^.8
    assert bent(0.9, 0.99) == pytest.approx(1.083287068, abs=1e-9)  # e^.08


def test_without_outer_the_inner_channels_are_projected(toy: NetSpec) -> None:
    student = squeeze(toy, "default", [0.4, 0.4, 0, 0.6, 1])
    # inner writes .4 · 20 = 8 channels, the stem 4: a 1×1 projection 8 → 4 without bias, 8·4 = 32
    assert layers(student) == {
        "stem": (1, 3, 1, 1, 4),
        "inner": (1, 3, 1, 1, 8),
        "add.1.project": (1, 1, 1, 0, 4),
        "down": (1, 5, 2, 2, 6),
        "head": (2, 1, 1, 0, 2),
    }
    # stem 36, norm 8, inner 4·8·9 + 8 = 296, projection 32, down 4·6·25 + 6 = 606, head 14
    assert counted(student) == (
        36 + 8 + 296 + 32 + 606 + 14,
        4 * 992 + 4 * 2 * 4 + 8,
        36 * 64 + 288 * 64 + 32 * 64 + 600 * 16 + 12,
    )
    assert counted(student) == (992, 4_008, 32_396)


def test_without_inner_and_outer_the_block_is_the_identity(toy: NetSpec) -> None:
    student = squeeze(toy, "default", [0.4, 0, 0, 0.6, 1])
    # the add goes too, and with the layers the activation that inner owned; the block's own
    # activation behind the add stays
    assert [node.op for node in student.spec.nodes] == [
        *("conv2d", "batch_norm", "relu", "relu", "conv2d", "relu"),
        *("adaptive_avg_pool2d", "flatten", "linear"),
    ]
    # stem 36, norm 8, down 606, head 14
    assert counted(student) == (664, 4 * 664 + 32 + 8, 36 * 64 + 600 * 16 + 12)


def test_without_down_the_mean_is_over_larger_maps(toy: NetSpec) -> None:
    student = squeeze(toy, "default", [0.4, 0.2, 1, 0, 1])
    # the mean takes 8×8 as it takes 4×4: no resize, and the head reads the group's 4 channels
    assert student.spec["pool"].shape == (4, 1, 1)
    assert "resize" not in [node.op for node in student.spec.nodes]
    # stem 36, norm 8, inner 148, outer 148, head 4·2 + 2 = 10
    assert counted(student) == (350, 4 * 350 + 32 + 8, 36 * 64 + 144 * 64 * 2 + 8)


def test_without_the_stem_the_image_takes_its_place(toy: NetSpec) -> None:
    student = squeeze(toy, "default", [0, 0.2, 1, 0.6, 1])
    # the batch norm goes with the stem; outer is now the first to write the group and keeps its 10
    # channels, so the other path, the image itself, is projected 1 → 10
    assert layers(student) == {
        "inner": (1, 3, 1, 1, 4),
        "outer": (1, 3, 1, 1, 10),
        "add.0.project": (1, 1, 1, 0, 10),
        "down": (1, 5, 2, 2, 6),
        "head": (2, 1, 1, 0, 2),
    }
    # inner 1·4·9 + 4 = 40, outer 4·10·9 + 10 = 370, projection 10, down 10·6·25 + 6 = 1,506,
    # head 14; no batch norm is left
    assert counted(student) == (1_940, 4 * 1_940, 36 * 64 + 360 * 64 + 10 * 64 + 1_500 * 16 + 12)


def test_with_everything_removed_the_head_reads_the_mean_of_the_image(toy: NetSpec) -> None:
    student = squeeze(toy, "default", [0, 0, 0, 0, 1])
    # one channel in, two logits out, two biases
    assert layers(student) == {"head": (2, 1, 1, 0, 2)}
    assert counted(student) == (4, 16, 2)


def test_an_episode_by_hand() -> None:
    """The environment pays what the arithmetic above says, at the end and not before."""
    env = make_toy_env("paper", PaperReward())
    observation, _ = env.reset()
    seen, rewards = [observation.tolist()], []
    for coefficient in (0.6, 0.8, 0.4, 0.6, 1):
        action = PRESETS["paper"].pool.index(coefficient)
        observation, reward, done, _, info = env.step(action)
        seen.append(observation.tolist())
        rewards.append(reward)
    assert done
    assert seen == [*anatomy(toy_spec()).states().tolist(), [0, 0, 0, 0, 0]]
    # inner before and after its activation, 16 channels each, and the 6 of the stem, 8×8
    assert info["cost"] == Cost(1_344, 5_432, 82_572, 4 * 38 * 64)
    # the toy pretends an accuracy: actions 3 + 4 + 2 + 3 + 5 = 17 of 5 · 5, so ½ + ½ · 17/25 = .84;
    # e^(20 · −.165761042 + 15 · −.06) = e^(−3.315220845 − .9) = e^−4.215220845
    assert info["accuracy"] == pytest.approx(0.84, abs=1e-12)
    assert rewards == [0, 0, 0, 0, pytest.approx(0.014769060, abs=1e-9)]
