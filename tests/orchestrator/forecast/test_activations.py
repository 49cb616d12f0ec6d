"""What a block keeps, counted against the tensors that autograd really saves."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.config import T5Config
from model.transformer import Block
from orchestrator.forecast.activations import Stack, block_kept
from orchestrator.forecast.scenario import Scenario
from orchestrator.parallel.layout import Layout
from orchestrator.parallel.parallelize import parallelize

ROWS, INPUTS = 3, 304
CONFIG = T5Config(d_model=64, d_ff=160, d_kv=16, heads=5, encoder_layers=1, decoder_layers=1)


def saved_bytes(block: Block, stack: Stack, config: T5Config, dropout: bool) -> int:
    """Bytes of the distinct storages saved by a forward pass, without weights, bias and the encoder's output."""
    x = torch.randn(ROWS, stack.length, config.d_model, requires_grad=True)
    bias = torch.randn(1, config.heads, stack.length, stack.length, requires_grad=True)
    memory = torch.randn(ROWS, INPUTS, config.d_model, requires_grad=True) if stack.memory else None
    shared = [*block.parameters(), bias] + ([] if memory is None else [memory])
    elsewhere = {tensor.untyped_storage().data_ptr() for tensor in shared}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in elsewhere:
            kept[tensor.untyped_storage().data_ptr()] = tensor.detach()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = block(x, bias, torch.arange(ROWS) if dropout else None, memory)
    # A recomputed block keeps its arguments by reference, out of the hooks' sight.
    kept[x.untyped_storage().data_ptr()] = x
    del out
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("length", [64, 296])
@pytest.mark.parametrize("memory", [0, INPUTS])
@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
@pytest.mark.parametrize("adapter", [None, 24])
def test_a_block_keeps_what_is_counted(
    dropout: float, length: int, memory: int, feed_forward: str, adapter: int | None
) -> None:
    config = replace(CONFIG, dropout=dropout, feed_forward=feed_forward, adapter=adapter)
    stack = Stack(1, length, memory, causal=False)
    block = Block(config, cross_attention=bool(memory))
    actual = saved_bytes(block, stack, config, dropout > 0)
    assert block_kept(scenario(config), stack).between == pytest.approx(actual, rel=0.01)


@pytest.mark.parametrize("recompute", ["feed_forward", "block"])
def test_recomputing_keeps_less_and_makes_the_rest_again(recompute: str) -> None:
    stack = Stack(1, 296, 0, causal=False)
    block = Block(CONFIG, cross_attention=False)
    parallelize(torch.nn.ModuleList([block]), None, Layout(recompute=recompute))  # type: ignore[arg-type]
    kept = block_kept(scenario(CONFIG, recompute), stack)
    assert kept.between == pytest.approx(saved_bytes(block, stack, CONFIG, True), rel=0.01)
    assert kept.between + kept.again == block_kept(scenario(CONFIG), stack).between


def test_a_gpu_keeps_less_of_a_norm_and_pads_an_odd_bias() -> None:
    on_cpu, on_gpu = scenario(CONFIG), replace(scenario(CONFIG), device="cuda")
    even, odd = Stack(1, 296, 0, causal=False), Stack(1, 297, 0, causal=False)
    norms = 2 * ROWS * 296 * CONFIG.d_model * 4
    assert block_kept(on_cpu, even).between - block_kept(on_gpu, even).between == norms
    more = block_kept(on_gpu, odd).between - block_kept(on_gpu, even).between
    padded = CONFIG.heads * 297 * 304 * 4
    assert more == padded + block_kept(on_gpu, even).between // 296


def test_tensor_parallel_ranks_share_the_inner_widths_alone() -> None:
    config = replace(CONFIG, heads=4)
    whole, half = scenario(config), replace(scenario(config), layout=Layout(tensor=2), world=2)
    stack = Stack(1, 296, 0, causal=False)
    outside = 2 * ROWS * 296 * (3 * config.d_model * 4 + 4)
    assert 2 * (block_kept(half, stack).between - outside) == block_kept(whole, stack).between - outside


def scenario(config: T5Config, recompute: str = "none") -> Scenario:
    return Scenario(
        model=config,
        layout=Layout(recompute=recompute),  # type: ignore[arg-type]
        world=1,
        rows=ROWS,
        lanes=1,
        accumulate=1,
        input_length=INPUTS,
        target_length=64,
        device="cpu",
    )
