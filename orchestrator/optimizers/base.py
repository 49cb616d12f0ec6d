"""What the optimizers share: state laid out as the parameter is, step counts, updates of a part of a model."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from orchestrator.parallel.shards import Groups, all_groups, axis_groups, local


class ShardedOptimizer(torch.optim.Optimizer):
    """An optimizer whose state slots exist before the first step and have layout-independent global shapes.

    Parameters may be plain tensors or DTensors. State is allocated for parameters that train; one that is
    thawed later gets its own when `allocate` is called, and counts its steps from 1.

    `step` uses the gradients up: afterwards their memory holds scratch values, so read them before.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self._groups: dict[tuple[Tensor, int | None], Groups] = {}
        super().__init__(params, defaults)
        self.allocate()

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def allocate(self) -> None:
        """Create zero state for every trainable parameter that has none."""
        for parameter in self._parameters():
            if parameter.requires_grad and parameter not in self.state:
                slots = self.new_state(parameter)
                self.state[parameter] = {"step": torch.zeros((), dtype=torch.int64), **slots}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update(self._parameters())
        return loss

    @torch.no_grad()
    def update(self, parameters: Iterable[Tensor]) -> None:
        """Update these parameters alone, all in one batch of collectives.

        Every rank must call it with the same parameters in the same order.
        """
        ready = [p for p in parameters if p.grad is not None]
        for parameter in ready:
            self.state[parameter]["step"] += 1
        if ready:
            self.apply(ready, [self._gradient(p) for p in ready])

    @abstractmethod
    def new_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """Zero slots of one parameter, by slot name."""

    @abstractmethod
    def apply(self, parameters: Sequence[Tensor], gradients: list[Tensor]) -> None:
        """The rule itself, in place; `gradients` are local parts in the dtype of the state, free to overwrite."""

    def groups(self, parameter: Tensor, axis: int | None = None) -> Groups:
        """`axis_groups` of one axis, or `all_groups`; looked up once, as every step asks for them."""
        key = parameter, axis
        if key not in self._groups:
            self._groups[key] = all_groups(parameter) if axis is None else axis_groups(parameter, axis)
        return self._groups[key]

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _slots(self, parameters: Sequence[Tensor], name: str) -> list[Tensor]:
        return [local(self.state[parameter][name]) for parameter in parameters]

    def _steps(self, parameters: Sequence[Tensor]) -> list[int]:
        return [int(self.state[parameter]["step"]) for parameter in parameters]

    @staticmethod
    def _gradient(parameter: Tensor) -> Tensor:
        assert parameter.grad is not None
        return local(parameter.grad).to(state_dtype(parameter))


def state_dtype(parameter: Tensor) -> torch.dtype:
    """Float32, or float64 for float64 parameters."""
    return torch.promote_types(parameter.dtype, torch.float32)


def relative_step(parameters: Sequence[Tensor], squares: Sequence[Tensor], lr: float, minimum: float) -> list[Tensor]:
    """lr * max(minimum, RMS(p)) of each parameter, as 0-d tensors, from its global sums of squares."""
    sizes = [float(parameter.numel()) for parameter in parameters]
    scale = list(torch._foreach_div(list(squares), sizes))
    torch._foreach_sqrt_(scale)
    torch._foreach_clamp_min_(scale, minimum)
    torch._foreach_mul_(scale, lr)
    return scale


def square_sums(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sum of squares of each tensor, 0-d, without copies of the tensors."""
    norms = list(torch._foreach_norm(list(tensors)))
    return list(torch._foreach_mul(norms, norms))
