"""What is applied from outside, blocks being what it is applied to: compilation, recomputation, precision, shards."""

import ast
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import model as package
from model.config import T5Config, sized
from model.initialize import initialize
from model.loss import cross_entropy
from model.transformer import T5, Batch

CONFIG = T5Config(vocab_rows=64, d_model=24, d_ff=32, d_kv=8, heads=3, encoder_layers=3, decoder_layers=3, adapter=4)


def drawn(config: T5Config = CONFIG) -> T5:
    model = T5(config)
    initialize(model, 3)
    return model


def batch() -> Batch:
    ids = torch.randint(2, 64, (4, 20), generator=torch.Generator().manual_seed(0))
    return Batch(ids[:, :12], ids[:, 12:], row_keys=torch.arange(4))


def trained(model: T5) -> list[torch.Tensor]:
    """Hidden states and every gradient of one step."""
    rows = batch()
    hidden = model(rows)
    sums = cross_entropy(model.scale_output(hidden), model.output_weight, rows.targets, rows.counted())
    sums.loss.backward()
    return [hidden, *(parameter.grad for _, parameter in sorted(model.named_parameters()))]


def test_all_blocks_of_a_stack_share_one_compiled_graph() -> None:
    expected, model = trained(drawn()), drawn()
    counter = CompileCounterWithBackend("eager")
    for stack in (model.encoder, model.decoder):
        for block in stack.blocks:
            block.compile(backend=counter, fullgraph=True)
    for got, plain in zip(trained(model), expected, strict=True):
        torch.testing.assert_close(got, plain)
    assert counter.frame_count == 2


def test_recomputed_blocks_drop_the_same_channels() -> None:
    expected, model = trained(drawn()), drawn()
    for stack in (model.encoder, model.decoder):
        for block in stack.blocks:
            whole = block.forward
            block.forward = lambda *args, whole=whole: checkpoint(
                whole, *args, use_reentrant=False, preserve_rng_state=False
            )
    for got, plain in zip(trained(model), expected, strict=True):
        assert torch.equal(got, plain)


def test_bfloat16_stays_near_float32() -> None:
    exact, narrow = trained(drawn()), trained(drawn().bfloat16())
    assert {x.dtype for x in narrow} == {torch.bfloat16}
    assert (narrow[0].float() - exact[0]).norm() < 0.02 * exact[0].norm()
    got, plain = (torch.cat([x.flatten().float() for x in gradients[1:]]) for gradients in (narrow, exact))
    assert (got - plain).norm() < 0.1 * plain.norm()


def test_the_largest_model_is_built_without_memory() -> None:
    with torch.device("meta"):
        model = T5(sized("11B"))
    assert sum(p.numel() for p in model.parameters()) == 11_307_321_344
    assert all(p.is_meta for p in model.parameters())
    assert not list(model.buffers())


@pytest.mark.parametrize("file", sorted(Path(package.__file__).parent.rglob("*.py")), ids=lambda file: file.name)
def test_model_code_knows_no_parallelism(file: Path) -> None:
    """No import of anything distributed when the package is imported; a run's checkpoint is opened on demand."""
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert not name.startswith(("torch.distributed", "ray", "fairscale", "orchestrator"))
