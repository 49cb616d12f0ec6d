"""Updates each block as soon as backward has its gradients, and frees them at once.

The gradients of one block exist at a time instead of those of the whole model: float32 master weights of 11
billion parameters then train in the memory of one large device. T5's Adafactor scales and clips each parameter
by itself, so the result is that of the ordinary path.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from data.errors import UserError
from model.transformer import T5, Block
from orchestrator.optimizers.base import ShardedOptimizer


class UpdateInBackward:
    """Hooks that update the blocks of `model` during backward.

    The learning rate must be set before backward. `optimizer.step()` after it updates what is left: the
    embedding, the final norms and the relative bias, whose gradients come last anyway. Made after the model
    is sharded, and again when the set of trainable parameters changes (`remove` the old one first).

    Raises `UserError` where the result would differ from the ordinary path's: gradients that are accumulated
    over several batches, a clip by the norm of all gradients, blocks that a step uses twice.
    """

    def __init__(
        self, model: T5, optimizer: ShardedOptimizer, *, accumulation: int = 1, clip_norm: float | None = None
    ) -> None:
        if accumulation > 1:
            raise UserError(
                f"the update in backward cannot add up gradients, but accumulation is {accumulation}; "
                "set it to 1 or turn the update in backward off"
            )
        if clip_norm is not None:
            raise UserError(
                f"the update in backward cannot clip by the global norm {clip_norm}, which is known only after "
                "backward; turn one of the two off"
            )
        if model.config.architecture == "shared":
            raise UserError(
                "the update in backward needs blocks that a step uses once, but the shared architecture uses "
                "each as encoder and as decoder; turn the update in backward off"
            )
        self._optimizer = optimizer
        self._handles: list[RemovableHandle] = []
        for block in model.modules():
            if isinstance(block, Block):
                self._watch([p for p in block.parameters() if p.requires_grad])

    def remove(self) -> None:
        """Go back to the ordinary path."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _watch(self, parameters: list[torch.nn.Parameter]) -> None:
        hook = self._hook(parameters)
        for parameter in parameters:
            self._handles.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]

    def _hook(self, parameters: list[torch.nn.Parameter]) -> Callable[[Tensor], None]:
        def update_when_complete(_: Tensor) -> None:
            if all(parameter.grad is not None for parameter in parameters):
                self._optimizer.update(parameters)
                for parameter in parameters:
                    parameter.grad = None

        return update_when_complete
