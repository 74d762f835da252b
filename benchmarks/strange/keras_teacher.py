"""A stranger's Keras 3 network on the torch backend: trained and exported; a script of its own.

    KERAS_BACKEND=torch python keras_teacher.py ARRAYS.npz TEACHER.onnx WIDTH

It runs in whatever interpreter has Keras, so it imports nothing of this project. The network is
the twin of :class:`benchmarks.strange.networks.Plain`, in Keras's order of axes.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
from keras import layers


def main() -> None:
    """Train on the labels, and export as the guide says."""
    arrays, out, width = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with np.load(arrays) as stored:
        train, labels, classes = stored["train"], stored["train_labels"], len(stored["names"])
    keras.utils.set_random_seed(0)
    pixels = train[:5000].reshape(-1, train.shape[3]) / 255
    mean, std = (np.float32(values.round(3)) for values in (pixels.mean(0), pixels.std(0)))
    x = (train.astype(np.float32) / 255 - mean) / std
    net = keras.Sequential([layers.Input(train.shape[1:])])
    for factor, stride in ((1, 1), (2, 2), (2, 1), (3, 2)):
        filters = round(width * factor)
        net.add(layers.Conv2D(filters, 3, stride, padding="same", use_bias=False))
        net.add(layers.BatchNormalization(momentum=0.9))
        net.add(layers.ReLU())
    net.add(layers.GlobalAveragePooling2D())
    net.add(layers.Dense(classes))
    epochs = max(4, 800 * 64 // len(x))
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * -(-len(x) // 64))
    net.compile(
        optimizer=keras.optimizers.AdamW(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    net.fit(x, labels, batch_size=64, epochs=epochs, verbose=0)
    net.export(out, format="onnx", verbose=False)


if __name__ == "__main__":
    main()
