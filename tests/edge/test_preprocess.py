"""From image files to network inputs."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edge import preprocess
from edge.errors import BadInput
from edge.preprocess import Preprocess

GREY = Preprocess(channels=1, height=2, width=3, mean=(0.5,), std=(0.25,))
COLOUR = Preprocess(3, 2, 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))


def encode(pixels: NDArray[np.generic], format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def test_an_input_is_x_over_255_minus_mean_over_std() -> None:
    # 0 → (0 − .5)/.25 = −2;  255 → (1 − .5)/.25 = 2;  51 → (.2 − .5)/.25 = −1.2
    images = np.array([[0, 255, 51], [0, 0, 0]], np.uint8).reshape(1, 2, 3, 1)
    result = GREY.to_input(images)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result[0, 0], np.array([[-2, 2, -1.2], [-2, -2, -2]]), rtol=1e-6)


def test_every_channel_has_its_own_mean_and_std_and_moves_to_the_front() -> None:
    images = np.zeros((1, 2, 3, 3), np.uint8)
    images[0, 1, 2] = (255, 51, 102)
    result = COLOUR.to_input(images)
    assert result.shape == (1, 3, 2, 3)
    # (1 − .1)/.5 = 1.8;  (.2 − .2)/.25 = 0;  (.4 − .3)/.125 = .8
    np.testing.assert_allclose(result[0, :, 1, 2], [1.8, 0, 0.8], atol=1e-6)
    np.testing.assert_allclose(result[0, :, 0, 0], [-0.2, -0.8, -2.4], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.data())
def test_a_row_is_the_same_to_the_bit_in_any_batch(
    seed: int, rows: int, data: st.DataObject
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (rows, 2, 3, 3), dtype=np.uint8)
    row = data.draw(st.integers(0, rows - 1))
    together, alone = COLOUR.to_input(images)[row], COLOUR.to_input(images[row : row + 1])[0]
    assert together.tobytes() == alone.tobytes()


@settings(max_examples=50, deadline=None)
@given(
    st.floats(-10, 10),
    st.floats(0.001, 10),
    st.lists(st.integers(0, 255), min_size=6, max_size=6),
)
def test_inputs_lie_between_those_of_black_and_white(
    mean: float, std: float, grey: list[int]
) -> None:
    settings_ = Preprocess(1, 2, 3, (mean,), (std,))
    result = settings_.to_input(np.array(grey, np.uint8).reshape(1, 2, 3, 1))
    black, white = (
        settings_.to_input(np.full((1, 2, 3, 1), value, np.uint8)).max() for value in (0, 255)
    )
    assert np.isfinite(result).all()
    assert black <= result.min() <= result.max() <= white


def test_no_images_give_no_inputs() -> None:
    assert GREY.to_input(np.zeros((0, 2, 3, 1), np.uint8)).shape == (0, 1, 2, 3)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 2, 3, 1), np.float32),
        np.zeros((2, 3, 1), np.uint8),
        np.zeros((1, 3, 2, 1), np.uint8),
        np.zeros((1, 2, 3, 3), np.uint8),
    ],
    ids=["dtype", "one image without N", "height and width swapped", "channels"],
)
def test_arrays_of_another_shape_or_type_are_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(BadInput, match=r"expected uint8 \(N, 2, 3, 1\)"):
        GREY.to_input(images)


def test_decode_gives_the_pixels_of_a_path_a_string_and_bytes(tmp_path: Path) -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    path = tmp_path / "image.png"
    path.write_bytes(encode(pixels))
    for source in (path, str(path), path.read_bytes()):
        decoded = COLOUR.decode(source)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, pixels)


def test_colour_becomes_grey_by_luma_and_grey_becomes_colour() -> None:
    # ITU-R 601: .299·100 + .587·50 + .114·200 = 82.05
    colour = np.full((2, 3, 3), (100, 50, 200), np.uint8)
    np.testing.assert_array_equal(GREY.decode(encode(colour)), np.full((2, 3, 1), 82))
    grey = np.full((2, 3), 7, np.uint8)
    np.testing.assert_array_equal(COLOUR.decode(encode(grey)), np.full((2, 3, 3), 7))


def test_a_palette_with_transparency_keeps_its_colours() -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=b"\x00\x80")
    decoded = COLOUR.decode(buffer.getvalue())
    np.testing.assert_array_equal(decoded, np.full((2, 3, 3), (10, 20, 30)))


def test_another_size_is_refused_or_resized_as_asked() -> None:
    large = encode(np.full((20, 30), 9, np.uint8))
    with pytest.raises(BadInput, match=r"big\.png .*got 30×20; expected 3×2 .*resize to true"):
        GREY.decode(large, "big.png")
    decoded = replace(GREY, resize=True).decode(large)
    np.testing.assert_array_equal(decoded, np.full((2, 3, 1), 9))


def test_sixteen_bits_per_channel_are_refused_and_not_clipped_to_white() -> None:
    with pytest.raises(BadInput, match="got mode I;16; expected 8 bits"):
        GREY.decode(encode(np.full((2, 3), 300, np.uint16)))


GOOD = encode(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF data|Truncated File Read):UserWarning")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_cut_short_is_refused_or_decoded(format: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    whole = encode(noise, format)
    assert COLOUR.decode(whole).shape == (2, 3, 3)
    messages = []
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        try:
            COLOUR.decode(whole[:length], "cut")
        except BadInput as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all("image cut cannot be decoded" in message for message in messages)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n"]
)
def test_bytes_of_no_known_format_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="image bytes cannot be decoded: got no known image format"):
        COLOUR.decode(data)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.png cannot be opened: got No such file"):
        GREY.decode(tmp_path / "none.png")
    with pytest.raises(BadInput, match="cannot be opened: got Is a directory"):
        GREY.decode(tmp_path)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims width × height grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_001, 10_000, 60_000])
@pytest.mark.parametrize("resize", [True, False])
def test_a_decompression_bomb_is_refused_before_its_pixels_are_made(
    side: int, resize: bool
) -> None:
    # 64 M pixels is our bound, about 89 M where Pillow warns, about 179 M where it raises.
    with pytest.raises(BadInput, match="too large: got .*; expected at most 64,000,000 pixels"):
        replace(GREY, resize=resize).decode(bomb(side, side))


def test_the_bound_on_pixels_is_kept_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "MAX_PIXELS", 6)
    assert COLOUR.decode(GOOD).shape == (2, 3, 3)
    monkeypatch.setattr(preprocess, "MAX_PIXELS", 5)
    with pytest.raises(BadInput, match="got 3×2; expected at most 5 pixels"):
        COLOUR.decode(GOOD)


finite = st.floats(-1e5, 1e5)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([1, 3]),
    st.integers(1, 8192),
    st.integers(1, 8192),
    st.data(),
    st.booleans(),
)
def test_json_there_and_back_changes_nothing(
    channels: int, height: int, width: int, data: st.DataObject, resize: bool
) -> None:
    mean = data.draw(st.lists(finite, min_size=channels, max_size=channels))
    std = data.draw(st.lists(st.floats(1e-6, 1e5), min_size=channels, max_size=channels))
    original = Preprocess(channels, height, width, tuple(mean), tuple(std), resize)
    assert Preprocess.from_json(original.to_json()) == original


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({"channels": 2}, "1 .grey. or 3 .RGB."),
        ({"height": 0}, "1 to 8192 pixels"),
        ({"width": 8193}, "1 to 8192 pixels"),
        ({"width": 3.0}, "a whole number"),
        ({"mean": [0.1, 0.2, 0.3]}, "one number per channel, 1 in all"),
        ({"mean": [1e300]}, "below a million"),
        ({"std": [0.0]}, "above 0"),
        ({"std": [-1.0]}, "above 0"),
        # Zero as float32, in which the division happens.
        ({"std": [1e-60]}, "above 0"),
        ({"std": "1"}, "a list"),
        ({"resize": 0}, "true or false"),
        ({"crop": True}, "one of channels"),
    ],
)
def test_json_out_of_range_is_refused(changes: dict[str, object], bound: str) -> None:
    with pytest.raises(BadInput, match=bound):
        Preprocess.from_json({**GREY.to_json(), **changes})
