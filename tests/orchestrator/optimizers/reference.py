"""The optimizers once more, as slow loops over float64 arrays of whole tensors."""

import numpy as np


class NaiveAdafactor:
    """Adafactor by the letter of the Mesh-TensorFlow rule, for 1-D and 2-D arrays."""

    def __init__(self, factor_from: int = 128) -> None:
        self.factor_from = factor_from
        self.t = 0
        self.slots: dict[str, dict[str, np.ndarray]] = {}

    def step(self, weights: dict[str, np.ndarray], gradients: dict[str, np.ndarray], lr: float) -> None:
        self.t += 1
        beta = 1 - self.t**-0.8
        for name, g in gradients.items():
            p = weights[name]
            s = lr * max(1e-3, np.sqrt(np.mean(p**2)))
            q = g**2 + 1e-30
            if p.ndim == 2 and min(p.shape) >= self.factor_from:
                slot = self.slots.setdefault(name, {"R": np.zeros(p.shape[0]), "C": np.zeros(p.shape[1])})
                slot["R"] = beta * slot["R"] + (1 - beta) * q.mean(axis=1)
                slot["C"] = beta * slot["C"] + (1 - beta) * q.mean(axis=0)
                v = np.outer(slot["R"], slot["C"]) / slot["R"].mean()
            else:
                slot = self.slots.setdefault(name, {"V": np.zeros(p.shape)})
                v = slot["V"] = beta * slot["V"] + (1 - beta) * q
            u = g / np.sqrt(v)
            weights[name] = p - s * u / max(1.0, np.sqrt(np.mean(u**2)))


class NaiveAdamW:
    """Adam with bias correction and steps relative to RMS(p)."""

    def __init__(self, weight_decay: float = 0.0) -> None:
        self.weight_decay = weight_decay
        self.t = 0
        self.slots: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def step(self, weights: dict[str, np.ndarray], gradients: dict[str, np.ndarray], lr: float) -> None:
        self.t += 1
        for name, g in gradients.items():
            p = weights[name]
            m, v = self.slots.get(name, (np.zeros(p.shape), np.zeros(p.shape)))
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            self.slots[name] = (m, v)
            size = lr * max(1e-3, np.sqrt(np.mean(p**2))) * np.sqrt(1 - 0.999**self.t) / (1 - 0.9**self.t)
            weights[name] = p - size * m / (np.sqrt(v) + 1e-6) - lr * self.weight_decay * p


SHAPES = {"table": (256, 128), "wide": (130, 200), "tall": (300, 129), "small": (40, 8), "norm": (64,), "scalar": ()}


def start(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of very different scales, one of them all zero."""
    generator = np.random.default_rng(seed)
    weights = {name: generator.normal(size=shape) * 10.0 ** (i - 3) for i, (name, shape) in enumerate(SHAPES.items())}
    weights["wide"] = np.zeros(SHAPES["wide"])
    return weights


def gradients(step: int) -> dict[str, np.ndarray]:
    """Gradients of step `step`: scales differ by tensor and row, and one tensor's are zero at first."""
    generator = np.random.default_rng([7, step])
    scales = (10.0 ** (2 - i) for i in range(len(SHAPES)))
    values = {
        name: np.asarray(generator.normal(size=shape) * scale)
        for (name, shape), scale in zip(SHAPES.items(), scales, strict=True)
    }
    values["tall"] *= np.linspace(0, 3, SHAPES["tall"][0])[:, None]
    if step == 1:
        values["small"] *= 0
    return values
