"""What autograd keeps of one block between forward and backward, and what its backward needs besides.

The counts follow the tensors that the operations of `model` save, each storage once: a linear layer its input, a
norm its input (on CPUs also the normalized values, which its fused form on GPUs computes again), attention queries,
keys, values, output and the logarithm of the softmax's sums, a product with a dropout mask nothing but the mask.
Masks are shared along queries, so that only attention's are large enough to count.

Letters: B rows, T queries, S keys of the encoder, D d_model, I width of the heads held here, F inner width held here.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.config import T5Config
from orchestrator.forecast.scenario import Scenario

CPU_KEEPS_WEIGHTS = 256 * 256
"""Query-key pairs up to which the CPU's attention keeps its softmax weights (`model.cpu_attention`)."""

CPU_ATTENTION_ELEMENTS = 2**20
"""Elements that its backward forms at a time."""

ALIGNED = 8
"""The fused attention of GPUs pads a bias whose rows are not a multiple of this, and keeps the padded copy."""


@dataclass(frozen=True)
class Stack:
    """A stack as a step runs it: `length` positions, attention to `memory` positions of an encoder (0: none)."""

    layers: int
    length: int
    memory: int
    causal: bool


def stacks(scenario: Scenario) -> list[Stack]:
    """The stacks in the order in which forward runs them."""
    config = scenario.model
    memory = 0 if config.decoder_only else scenario.input_length
    decoder = Stack(config.decoder_layers, scenario.target_length, memory, True)
    if config.decoder_only:
        return [decoder]
    layers = config.decoder_layers if config.architecture == "shared" else config.encoder_layers
    return [Stack(layers, scenario.input_length, 0, False), decoder]


@dataclass(frozen=True)
class Kept:
    """Bytes of one block of a stack on one device."""

    between: int
    """Kept from forward to backward."""
    again: int
    """Made a second time, and kept, when backward reaches the block."""
    working: int
    """Needed besides while its backward runs, weights' gradients left out."""


def block_kept(scenario: Scenario, stack: Stack) -> Kept:
    """What one block of `stack` keeps for a micro-batch under the scenario's recompute policy."""
    rows, length, item = scenario.micro_rows, stack.length, scenario.item
    d_model = rows * length * scenario.model.d_model * item
    inner = _feed_forward(scenario, stack)
    rest = _attention(scenario, stack, length, trained_bias=True) + _norms(scenario, stack) + _adapter(scenario, stack)
    if stack.memory:
        rest += _attention(scenario, stack, stack.memory, trained_bias=False)
    width = rows * length * scenario.model.d_ff // scenario.layout.tensor * item
    gated = scenario.model.feed_forward == "gated-gelu"
    # The feed-forward's backward comes first; what it kept is gone when attention's needs its share.
    working = 2 * d_model + max((2 if gated else 1) * width, _attention_backward(scenario, stack) - inner)
    if scenario.layout.recompute == "block":
        return Kept(d_model, rest + inner - d_model, working)
    if scenario.layout.recompute == "feed_forward":
        return Kept(rest, inner, working)
    return Kept(rest + inner, 0, working)


def bias_kept(scenario: Scenario, stack: Stack) -> int:
    """Bytes that a stack keeps until its backward is through: bias and masks, token ids."""
    positions = scenario.micro_rows * stack.length
    # Masks of self-attention are added into the bias; that of the attention to the encoder stays by itself.
    mask = positions * stack.memory * scenario.item if scenario.segments else 0
    return bias_elements(scenario, stack) * scenario.item + mask + 8 * positions


def end_kept(scenario: Scenario, stack: Stack) -> int:
    """Bytes that a stack keeps until its backward begins: the last norm's input, what a CPU adds, and the output."""
    copies = 2 if scenario.device == "cuda" else 3
    return copies * scenario.micro_rows * stack.length * scenario.model.d_model * scenario.item


def bias_elements(scenario: Scenario, stack: Stack) -> int:
    """Elements of the additive bias of self-attention: shared by rows unless each has a mask of its own."""
    rows = scenario.micro_rows if scenario.segments else 1
    return rows * scenario.model.heads // scenario.layout.tensor * stack.length**2


def _norms(scenario: Scenario, stack: Stack) -> int:
    positions = scenario.micro_rows * stack.length
    sublayers = 3 if stack.memory else 2
    copies = 2 if scenario.device == "cuda" else 3
    return sublayers * positions * (copies * scenario.model.d_model * scenario.item + 4)


def _attention(scenario: Scenario, stack: Stack, keys: int, *, trained_bias: bool) -> int:
    config, rows, length, item = scenario.model, scenario.micro_rows, stack.length, scenario.item
    heads = config.heads // scenario.layout.tensor
    width = heads * config.d_kv
    mask = rows * heads * keys * item if config.dropout else 0
    kept = (2 * length + 2 * keys) * rows * width * item + mask
    if scenario.device == "cpu":
        if trained_bias and length * keys <= CPU_KEEPS_WEIGHTS:
            return kept + rows * length * (width + heads * keys) * item
        return kept + 4 * rows * heads * length
    padded = 0
    if keys % ALIGNED and (trained_bias or scenario.segments):
        wide = -(-keys // ALIGNED) * ALIGNED
        per_row = heads if trained_bias else 1
        padded = (rows if scenario.segments else 1) * per_row * length * wide * item
    return kept + padded + 4 * rows * heads * length


def _feed_forward(scenario: Scenario, stack: Stack) -> int:
    config = scenario.model
    # ReLU keeps its output and the output layer the dropped copy of it; GELU keeps gate, its GELU, values, product.
    copies = 4 if config.feed_forward == "gated-gelu" else 2 if config.dropout else 1
    return copies * scenario.micro_rows * stack.length * config.d_ff // scenario.layout.tensor * scenario.item


def _adapter(scenario: Scenario, stack: Stack) -> int:
    config: T5Config = scenario.model
    if config.adapter is None:
        return 0
    positions = scenario.micro_rows * stack.length
    copies = 2 if scenario.device == "cuda" else 3
    return positions * ((copies * config.d_model + config.adapter) * scenario.item + 4)


def _attention_backward(scenario: Scenario, stack: Stack) -> int:
    """Gradients of queries, keys, values and output, and what forms the bias's."""
    config, rows, length, item = scenario.model, scenario.micro_rows, stack.length, scenario.item
    heads = config.heads // scenario.layout.tensor
    gradients = 4 * rows * length * heads * config.d_kv * item + bias_elements(scenario, stack) * item
    if scenario.device == "cpu":
        return gradients + 3 * min(rows * heads * length**2, max(CPU_ATTENTION_ELEMENTS, heads * length**2)) * item
    # The fused kernel writes the bias's gradient for every row before it is summed.
    wide = -(-length // ALIGNED) * ALIGNED
    return gradients + rows * heads * length * wide * item
