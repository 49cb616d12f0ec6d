"""The peak memory of a training step on one device, by part.

A step is followed through the moments at which memory can be highest: the loss, backward at both ends of every
stack, the update. Between two of them memory moves evenly, block by block, so one of them is the peak. Compiled
blocks keep less than is counted here, frozen weights likewise; the allocator's own losses are not counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from model.loss import CHUNK_BYTES
from orchestrator.forecast.activations import bias_elements, bias_kept, block_kept, end_kept, stacks
from orchestrator.forecast.scenario import Scenario
from orchestrator.forecast.sizes import MASTER, Piece, by_block, pieces


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Bytes on one device at one moment of a step."""

    name: str
    weights: int
    gradients: int = 0
    optimizer: int = 0
    """State and, while parameters are updated, scratch values."""
    activations: int = 0
    logits: int = 0
    """Logits of a chunk and the gradients that the loss makes early."""
    gathered: int = 0
    """Whole blocks in use and on their way, and their gradients before they are dealt to the ranks."""

    def parts(self) -> dict[str, int]:
        """Bytes by part, without the total."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts().values())


def peak(scenario: Scenario) -> Moment:
    """The moment of a step at which a device holds most."""
    return max(moments(scenario), key=lambda moment: moment.total)


def moments(scenario: Scenario) -> list[Moment]:
    """The moments of a step in their order."""
    return _Step(scenario).moments()


class _Step:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.pieces = pieces(scenario)
        groups = dict(by_block(self.pieces))
        self.root = groups.pop(None)
        self.blocks: dict[str | None, list[Piece]] = groups
        self.largest = max(_used(block) for block in self.blocks.values())
        self.stacks = stacks(scenario)
        self.base = Moment(
            name="start",
            weights=MASTER * sum(piece.held for piece in self.pieces),
            optimizer=MASTER * sum(piece.state for piece in self.pieces),
            gradients=_gradients(self.pieces) if scenario.accumulate > 1 else 0,
        )

    def moments(self) -> list[Moment]:
        made = [self._loss()]
        done: list[Piece] = []
        for index in reversed(range(len(self.stacks))):
            blocks = self._blocks_of(index)
            made.append(self._enters(index, done, blocks))
            made.append(self._after_block(index, done, blocks))
            made.append(self._first_block(index, done, blocks))
            done += [piece for block in blocks for piece in block]
            made.append(self._lookup(index, done))
        made.append(self._update())
        return made

    def _blocks_of(self, index: int) -> list[list[Piece]]:
        """Parameters whose gradients are complete once backward has left this stack."""
        if self.scenario.model.architecture == "shared":
            # The stack serves twice; its gradients exist from the first backward through it.
            return list(self.blocks.values()) if index == len(self.stacks) - 1 else []
        stack = "decoder" if index == len(self.stacks) - 1 else "encoder"
        return [block for name, block in self.blocks.items() if name is not None and name.startswith(stack)]

    def _kept(self, count: int) -> int:
        """Bytes that the first `count` stacks keep between forward and backward."""
        return sum(
            stack.layers * block_kept(self.scenario, stack).between
            + bias_kept(self.scenario, stack)
            + end_kept(self.scenario, stack)
            for stack in self.stacks[:count]
        )

    def _loss(self) -> Moment:
        scenario, item = self.scenario, self.scenario.item
        positions = scenario.micro_rows * scenario.target_length
        rows = scenario.model.vocab_rows // scenario.layout.tensor
        chunk = max(1, CHUNK_BYTES // (4 * rows))
        first, second = min(positions, chunk), min(max(positions - chunk, 0), chunk)
        # A chunk's gradient is let go only after the next one's logits are made.
        logits = rows * max(_logits(first, item), item * first + _logits(second, item))
        if self._root_trains:
            logits += (4 + item) * rows * scenario.model.d_model
        hidden = positions * scenario.model.d_model * item
        return replace(
            self.base,
            name="loss",
            activations=self._kept(len(self.stacks)),
            logits=logits + 2 * hidden,
            gathered=self._gathered(blocks=1),
        )

    def _enters(self, index: int, done: list[Piece], blocks: list[list[Piece]]) -> Moment:
        """Within the stack's last block, whose first gradients are made while all else is still kept."""
        kept = block_kept(self.scenario, self.stacks[index])
        first = max((_gradients([piece]) for block in blocks for piece in block), default=0)
        return self._backward(
            f"backward enters stack {index + 1}",
            index,
            self.stacks[index].layers * kept.between + kept.again + kept.working,
            (0 if self.scenario.in_backward else _gradients(done)) + first,
            entering=True,
        )

    def _after_block(self, index: int, done: list[Piece], blocks: list[list[Piece]]) -> Moment:
        """After the stack's last block, whose gradients are whole and may be used up at once."""
        stack = self.stacks[index]
        at_once = self.scenario.in_backward
        return self._backward(
            f"backward is one block into stack {index + 1}",
            index,
            (stack.layers - 1) * block_kept(self.scenario, stack).between,
            (0 if at_once else _gradients(done)) + max((_gradients(block) for block in blocks), default=0),
            max((self._scratch(block) for block in blocks), default=0) if at_once else 0,
        )

    def _first_block(self, index: int, done: list[Piece], blocks: list[list[Piece]]) -> Moment:
        """Within the stack's first block, when all others are done."""
        kept = block_kept(self.scenario, self.stacks[index])
        first = max((_gradients([piece]) for block in blocks for piece in block), default=0)
        others = [piece for block in blocks[1:] for piece in block]
        return self._backward(
            f"backward leaves stack {index + 1}",
            index,
            kept.between + kept.again + kept.working,
            (0 if self.scenario.in_backward else _gradients(done + others)) + first,
        )

    def _lookup(self, index: int, done: list[Piece]) -> Moment:
        """After the stack, when the embedding gets its gradient."""
        lookup = self._embedding if self._root_trains else 0
        moment = self._backward(
            f"backward of embedding {index + 1}", index, 0, 0 if self.scenario.in_backward else _gradients(done)
        )
        if not self.scenario.sharded:
            return replace(moment, gradients=moment.gradients + MASTER * lookup)
        # All blocks are dealt, of the last one perhaps the copy is left; the root's turn comes after the last stack.
        root = self.scenario.item * lookup
        if index == 0:
            root = max(root, MASTER * sum(piece.used for piece in self.root if piece.trains))
        last = MASTER * self.largest
        return replace(moment, gathered=self._gathered(blocks=0) + self.scenario.item * lookup + max(root, last))

    def _backward(
        self, name: str, index: int, kept: int, gradients: int, scratch: int = 0, entering: bool = False
    ) -> Moment:
        """A moment of the backward through a stack whose blocks then keep `kept` bytes."""
        scenario, stack = self.scenario, self.stacks[index]
        if scenario.accumulate > 1:
            gradients = self.base.gradients
        elif not scenario.sharded and self._root_trains:
            gradients += MASTER * self._embedding
        # Gradients of what all blocks share: the bias's sum so far, the encoder output's sum and newest part.
        shared = 2 * scenario.micro_rows * stack.memory * scenario.model.d_model
        if not entering:
            shared += bias_elements(scenario, stack)
        return replace(
            self.base,
            name=name,
            gradients=gradients,
            optimizer=self.base.optimizer + scratch,
            activations=self._kept(index) + bias_kept(scenario, stack) + kept + scenario.item * shared,
            logits=self._early_gradients(),
            gathered=self._gathered(blocks=2) + self._undealt(),
        )

    def _update(self) -> Moment:
        left = self.root if self.scenario.in_backward else self.pieces
        return replace(
            self.base,
            name="update",
            gradients=_gradients(left),
            optimizer=self.base.optimizer + self._scratch(left),
        )

    def _scratch(self, updated: list[Piece]) -> int:
        """Adafactor squares one gradient at a time; AdamW holds one parameter's update and its divisor."""
        copies = 1 if self.scenario.optimizer == "adafactor" else 2
        return copies * MASTER * max((piece.held for piece in updated if piece.trains), default=0)

    def _gathered(self, blocks: int) -> int:
        """Root parameters, whole from forward's start to backward's end, and blocks in use or on their way."""
        if not self.scenario.sharded:
            return 0
        return self.scenario.item * (_used(self.root) + blocks * self.largest)

    def _undealt(self) -> int:
        """Whole gradients before they are summed over ranks: a block's, and the float32 copy of it or the last one."""
        if not self.scenario.sharded:
            return 0
        item = self.scenario.item
        block = (item + MASTER) * self.largest
        return block + (item * self._embedding if self._root_trains else 0)

    def _early_gradients(self) -> int:
        """What the loss's graph holds to the end of backward: gradients of the hidden states and of its matrix."""
        scenario = self.scenario
        hidden = scenario.micro_rows * scenario.target_length * scenario.model.d_model
        matrix = scenario.model.vocab_rows // scenario.layout.tensor * scenario.model.d_model
        return scenario.item * (hidden + (matrix if self._root_trains else 0))

    @property
    def _embedding(self) -> int:
        """Elements of the output matrix in use on a device."""
        return self.scenario.model.vocab_rows // self.scenario.layout.tensor * self.scenario.model.d_model

    @property
    def _root_trains(self) -> bool:
        return self.scenario.trains("embedding.weight")


def _logits(positions: int, item: int) -> int:
    """Bytes a word of a chunk's logits in float32, and of their gradient where it has another dtype."""
    return positions * (4 if item == 4 else 4 + item)


def _used(held: list[Piece]) -> int:
    return sum(piece.used for piece in held)


def _gradients(held: list[Piece]) -> int:
    return MASTER * sum(piece.held for piece in held if piece.trains)
