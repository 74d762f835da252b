"""How a stranger trains: AdamW under one cycle, on labels alone, with shifted images.

It makes the teachers and, at the student's size, the hand-trained rival; none of the product's code
takes part in either.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.strange.data import Images, Labels, Pixels

#: passes over all rows, but at least so many steps: 300 rows need more passes than 50,000
TEACHER, RIVAL = (6, 800), (12, 2000)
PEAK_RATE, WEIGHT_DECAY, SMOOTHING = 4e-3, 0.02, 0.05


def train(
    net: nn.Module, images: Images, length: tuple[int, int], *, seed: int = 0, flip: bool = False
) -> nn.Module:
    """Train from scratch on every training row; in eval mode afterwards.

    Args:
        net: changed in place.
        images: its training table is learnt from.
        length: epochs, and the fewest steps; :data:`TEACHER` or :data:`RIVAL`.
        seed: of the order of rows and of the shifts.
        flip: mirror every other image: for photographs, not for digits.
    """
    labels = torch.from_numpy(images.train_labels)
    rows, draw = len(labels), torch.Generator().manual_seed(seed)
    batch = 64 if rows < 10_000 else 128
    epochs, least = length
    steps = max(least, epochs * rows // batch)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=WEIGHT_DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    net.train()
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < min(batch, rows):
            order = torch.randperm(rows, generator=draw)
        picked, order = order[:batch], order[batch:]
        batch_inputs = _moved(_inputs(images, images.train[picked.numpy()]), draw, flip)
        loss = loss_of(net(batch_inputs), labels[picked])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return net.eval()


def _moved(batch: Tensor, draw: torch.Generator, flip: bool) -> Tensor:
    """Every image shifted by up to two pixels to each side, its edge repeated."""
    rows, channels, height, width = batch.shape
    if flip:
        mirrored = torch.rand(rows, generator=draw) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    padded = nn.functional.pad(batch, (2, 2, 2, 2), mode="replicate")
    down, right = torch.randint(5, (2, rows, 1), generator=draw)
    y, x = torch.arange(height) + down, torch.arange(width) + right
    image, channel = torch.arange(rows)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[image, channel, y[:, None, :, None], x[:, None, None, :]]


def _inputs(images: Images, pixels: Pixels) -> Tensor:
    """Pixels n×H×W×C as float32 n×C×H×W, by the rounded mean and deviation of the data."""
    mean, std = (torch.tensor(values).float() for values in images.scale)
    x = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    return ((x - mean) / std).permute(0, 3, 1, 2).contiguous()


def answers(net: nn.Module, images: Images) -> Labels:
    """The class that a network in eval mode gives every test row."""
    found: list[NDArray[np.int64]] = []
    with torch.inference_mode():
        for start in range(0, len(images.test), 500):
            batch = _inputs(images, images.test[start : start + 500])
            found.append(net(batch).argmax(1).numpy())
    return np.concatenate(found)
