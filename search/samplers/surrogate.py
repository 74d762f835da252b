"""Predicts a candidate's accuracy from those that were distilled: a Gaussian process.

What is predicted is z = −log₂(1 − A + ε), how often the error was halved: accuracies crowd near 1,
where differences matter, and a candidate that learnt nothing should not bend the rest. The kernel
is a sum of Matérn 5/2 kernels, one over what is chosen layer by layer, one over the costs of the
whole, and one over what an untrained student promises, where that is known. Each feature has a
length scale; these parameters maximise the posterior under priors that keep a few dozen candidates
from being explained by chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from search.samplers.features import Seen

Values = NDArray[np.float64]
#: what is seen of candidates: layer by layer, as a whole, and what they promise
Points = list[Tensor]

#: errors below this are not told apart
SMALLEST_ERROR = 0.002
#: candidates that a fit takes in; cost grows with their third power
MOST = 600
#: steps of the search for the kernel's parameters, and how many standard deviations of their
#: priors they may go: far out a kernel cannot be factorised
STEPS, FARTHEST = 40, 4


def halvings(accuracies: Values) -> Values:
    """z of accuracies."""
    return -np.log2(1 - accuracies + SMALLEST_ERROR)


def accuracy_of(z: Values) -> Values:
    """The inverse of :func:`halvings`, within [0, 1]."""
    found: Values = np.clip(1 + SMALLEST_ERROR - 2.0**-z, 0.0, 1.0)
    return found


@dataclass(frozen=True)
class Priors:
    """Normal priors of the logarithms of the kernel's parameters: (mean, standard deviation).

    Attributes:
        layer: length scale of a layer's coefficient; the whole range of a coefficient is 1.
        whole: length scale of a logarithmic cost, in halvings, and of a promise.
        part: amplitude of each kernel, where z is scaled to a variance of 1.
        noise: of a distillation, likewise.
    """

    layer: tuple[float, float] = (math.log(1.5), 0.8)
    whole: tuple[float, float] = (math.log(4.0), 0.8)
    part: tuple[float, float] = (math.log(0.8), 0.7)
    noise: tuple[float, float] = (math.log(0.15), 0.8)


class Surrogate:
    """A Gaussian process over candidates. Fit it, then ask it.

    Attributes:
        parameters: logarithms of the kernel's: length scales of layers, of costs, of the promise,
            amplitudes of these parts, noise. Empty before the first fit.
    """

    def __init__(self, priors: Priors | None = None) -> None:
        self.priors = priors or Priors()
        self.parameters: Values = np.zeros(0)

    def fit(self, seen: Seen, z: Values, tune: bool = True) -> None:
        """Take in what was distilled.

        Args:
            seen: candidates, at most :data:`MOST`.
            z: of each of them.
            tune: the kernel's parameters; else they stay what they are.
        """
        self._middle, self._scale = float(z.mean()), float(max(z.std(), 0.05))
        y = torch.from_numpy((z - self._middle) / self._scale)
        self._points = _points(seen)
        if tune:
            self._tune(y)
        self._told = self._points, y
        self._condition(y)

    def _tune(self, y: Tensor) -> None:
        """Maximise the posterior; a fit with a few candidates more begins where the last ended."""
        means, deviations = self._prior()
        start = self.parameters if len(self.parameters) else means.numpy()

        def loss(parameters: Values) -> tuple[float, Values]:
            theta = torch.tensor(parameters, requires_grad=True)
            value = self._evidence(theta, y) + 0.5 * (((theta - means) / deviations) ** 2).sum()
            (gradient,) = torch.autograd.grad(value, theta)
            return value.item(), gradient.numpy()

        bounds = list(
            zip(means - FARTHEST * deviations, means + FARTHEST * deviations, strict=True)
        )
        options = {"maxiter": STEPS}
        found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
        self.parameters = np.asarray(found.x)

    def condition_on(self, seen: Seen) -> None:
        """Take candidates for what they are predicted to be: near them little is left to learn."""
        mean, _ = self.predict(seen)
        more = zip(self._points, _points(seen), strict=True)
        self._points = [torch.cat(both) for both in more]
        scaled = torch.from_numpy((mean - self._middle) / self._scale)
        self._condition(torch.cat([self._y, scaled]))

    def forget(self) -> None:
        """Take back what was believed."""
        self._points, y = self._told
        self._condition(y)

    def predict(self, seen: Seen) -> tuple[Values, Values]:
        """Mean and standard deviation of z, noise left out; each of shape (batch,)."""
        theta = torch.from_numpy(self.parameters)
        with torch.no_grad():
            across = self._kernel(theta, _points(seen), self._points)
            mean = across @ self._weights
            half = torch.linalg.solve_triangular(self._chol, across.T, upper=False)
            own = (theta[-1 - len(self._points) : -1].exp() ** 2).sum()
            spread = (own - (half**2).sum(0)).clamp_min(1e-9).sqrt()
        return mean.numpy() * self._scale + self._middle, spread.numpy() * self._scale

    @property
    def noise(self) -> float:
        """Standard deviation of z between two trainings of one candidate, as far as it shows."""
        return float(np.exp(self.parameters[-1])) * self._scale

    def _prior(self) -> tuple[Tensor, Tensor]:
        priors = self.priors
        layers, *others = (part.shape[1] for part in self._points)
        rows = [priors.layer] * layers + [priors.whole] * sum(others)
        rows += [priors.part] * len(self._points) + [priors.noise]
        table = torch.tensor(rows, dtype=torch.float64)
        return table[:, 0], table[:, 1]

    def _condition(self, y: Tensor) -> None:
        theta = torch.from_numpy(self.parameters)
        with torch.no_grad():
            self._y = y
            kernel = self._kernel(theta, self._points, self._points)
            self._chol = _cholesky(kernel, theta[-1].exp() ** 2)
            self._weights = torch.cholesky_solve(y[:, None], self._chol)[:, 0]

    def _evidence(self, theta: Tensor, y: Tensor) -> Tensor:
        """Minus the logarithm of the marginal likelihood, but for a constant."""
        chol = _cholesky(self._kernel(theta, self._points, self._points), theta[-1].exp() ** 2)
        solved = torch.cholesky_solve(y[:, None], chol)[:, 0]
        evidence: Tensor = 0.5 * y @ solved + chol.diagonal().log().sum()
        return evidence

    def _kernel(self, theta: Tensor, one: Points, other: Points) -> Tensor:
        parts = len(one)
        amplitudes = theta[-1 - parts : -1].exp() ** 2
        widths = [part.shape[1] for part in one]
        scales = list(torch.split(theta[: sum(widths)].exp(), widths))
        # where many layers vary, each of them tells a smaller part
        scales[0] = scales[0] * max(1.0, widths[0] / 6) ** 0.5
        total = torch.zeros(())
        for part in range(parts):
            near = _matern(one[part] / scales[part], other[part] / scales[part])
            total = total + amplitudes[part] * near
        return total


def _points(seen: Seen) -> Points:
    blocks = [seen.layers, seen.whole, *([] if seen.promise is None else [seen.promise])]
    return [torch.from_numpy(block) for block in blocks]


def _matern(one: Tensor, other: Tensor) -> Tensor:
    """Matérn 5/2 of points that are scaled already."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * one @ other.T
    r = (5 * squares.clamp_min(0) + 1e-12).sqrt()
    return (1 + r + r**2 / 3) * torch.exp(-r)


def _cholesky(kernel: Tensor, noise: Tensor) -> Tensor:
    found: Tensor = torch.linalg.cholesky(kernel + (noise + 1e-6) * torch.eye(len(kernel)))
    return found
