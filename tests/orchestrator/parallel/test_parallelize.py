"""What a layout may do to a model besides splitting it: copies, recomputation, compilation, decoding, freezing."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.distributed as dist

from data.errors import UserError
from model.config import sized
from model.freezing import freeze, trained_names
from model.initialize import initialize
from model.transformer import T5
from orchestrator.optimizers.adafactor import Adafactor
from orchestrator.optimizers.in_backward import UpdateInBackward
from orchestrator.parallel.layout import Layout, build_mesh, check_layout, data_parallel
from orchestrator.parallel.loss import loss_sums
from orchestrator.parallel.parallelize import build_model, parallelize, reshard, state_tensors
from orchestrator.parallel.shards import local
from tests.orchestrator.parallel.cases import CASES, SEED, SMALL, Part, assemble, batch, part, rows_of, run
from tests.orchestrator.parallel.test_layouts import assert_near
from tests.ranks import run_ranks


def test_without_a_mesh_the_model_is_the_plain_one() -> None:
    plain = T5(SMALL)
    initialize(plain, SEED)
    built = build_model(SMALL, Layout(), None, seed=SEED, device="cpu")
    for (name, a), (other, b) in zip(plain.named_parameters(), built.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(a, b)


@pytest.mark.parametrize("recompute", ["feed_forward", "block"])
def test_recomputation_changes_nothing(recompute: str) -> None:
    case = CASES["v1.1-dense"]
    wanted, found = run(case, Layout(), 2), run(case, Layout(recompute=recompute), 2)  # type: ignore[arg-type]
    assert found.losses == wanted.losses
    for name, value in wanted.last.items():
        np.testing.assert_array_equal(found.last[name].values, value.values, err_msg=name)


def saved_bytes(layout: Layout) -> int:
    """Bytes of activations that backward keeps."""
    case = CASES["encoder_decoder-dense"]
    model = build_model(case.config, layout, None, seed=SEED, device="cpu")
    held = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model(batch(case, 1))
    del hidden
    return sum(held.values())


def test_recomputation_keeps_less() -> None:
    everything, most = saved_bytes(Layout()), saved_bytes(Layout(recompute="feed_forward"))
    assert saved_bytes(Layout(recompute="block")) < most < everything


def copies(rank: int) -> tuple[dict[str, Part], list[float]]:
    outcome = run(CASES["v1.1-packed"], Layout(replicas=2), 3)
    return outcome.last, outcome.losses


def test_hybrid_sharding_equals_one_process() -> None:
    ranks = run_ranks(4, copies)
    wanted = run(CASES["v1.1-packed"], Layout(), 3)
    assert ranks[0][1] == pytest.approx(wanted.losses, rel=1e-5)
    assert_near({name: assemble([rank[0][name] for rank in ranks]) for name in wanted.last}, wanted.last, 1e-3)


def copies_of_tensor_parallel(rank: int) -> dict[str, Part]:
    return run(CASES["encoder_decoder-dense"], Layout(replicas=2, tensor=2), 3).last


def test_hybrid_sharding_of_tensor_parallel_groups() -> None:
    ranks = run_ranks(4, copies_of_tensor_parallel)
    wanted = run(CASES["encoder_decoder-dense"], Layout(), 3)
    assert_near({name: assemble([rank[name] for rank in ranks]) for name in wanted.last}, wanted.last, 1e-3)


def thaw(rank: int, tensor: int) -> tuple[list[set[str]], dict[str, Part]]:
    """Train only the decoder's last block, then its first too, then go on; the rest stays frozen."""
    layout, case = Layout(tensor=tensor), CASES["encoder_decoder-dense"]
    mesh = build_mesh(layout, "cpu")

    def freeze(model: T5) -> None:
        model.requires_grad_(False)
        model.decoder.blocks[-1].requires_grad_()

    model = build_model(case.config, layout, mesh, seed=SEED, device="cpu", freeze=freeze)
    optimizer = Adafactor(model.parameters(), factor_from=8)
    states = []
    for step in range(1, 4):
        if step == 2:
            reshard(model)
            model.decoder.blocks[0].requires_grad_()
            optimizer.allocate()
        (loss_sums(model, rows_of(batch(case, step), *data_parallel(mesh))).loss / 10).backward()
        optimizer.step()
        optimizer.zero_grad()
        names = state_tensors(model, optimizer)
        states.append({name.split("/")[1] for name in names if name.startswith("optimizer/")})
    return states, {name: part(tensor) for name, tensor in state_tensors(model, optimizer).items()}


@pytest.mark.parametrize("tensor", [1, 2])
def test_frozen_blocks_stay_and_thawed_ones_join(tensor: int) -> None:
    ranks, (states, wanted) = run_ranks(2, thaw, tensor), thaw(0, 1)
    assert ranks[0][0] == states
    assert all(name.startswith("decoder.blocks.1.") for name in states[0])
    assert {name.split(".")[2] for name in states[1]} == {"0", "1"}
    whole = {name: assemble([rank[1][name] for rank in ranks]) for name in wanted}
    assert_near(whole, wanted, 1e-3)
    steps = {name.split(".blocks.")[1][0]: int(value) for name, value in whole.items() if name.endswith("/step")}
    assert steps == {"0": 2, "1": 3}
    start = build_model(SMALL, Layout(), None, seed=SEED, device="cpu")
    assert np.array_equal(whole["param/embedding.weight"], start.embedding.weight.detach().numpy())


def adapt(rank: int, tensor: int) -> dict[str, Part]:
    """Train the adapters alone, recomputing blocks and updating in backward."""
    layout, case = Layout(tensor=tensor, recompute="block"), CASES["v1.1-packed"]
    mesh, names = build_mesh(layout, "cpu"), trained_names(case.config, "adapters")
    model = build_model(case.config, layout, mesh, seed=SEED, device="cpu", freeze=partial(freeze, trained=names))
    optimizer = Adafactor(model.parameters(), factor_from=4)
    UpdateInBackward(model, optimizer)
    for step in range(1, 4):
        (loss_sums(model, rows_of(batch(case, step), *data_parallel(mesh))).loss / 10).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: part(tensor) for name, tensor in state_tensors(model, optimizer).items()}


@pytest.mark.parametrize("tensor", [1, 2])
def test_adapters_train_alone(tensor: int) -> None:
    ranks, wanted = run_ranks(2, adapt, tensor), adapt(0, 1)
    whole = {name: assemble([rank[name] for rank in ranks]) for name in wanted}
    assert_near(whole, wanted, 1e-3)
    assert all(".adapter" in name for name in whole if name.startswith("optimizer/"))
    config = CASES["v1.1-packed"].config
    start = build_model(config, Layout(), None, seed=SEED, device="cpu")
    for name, value in start.named_parameters():
        changed = not np.array_equal(whole[f"param/{name}"], value.detach().numpy())
        assert changed == (".adapter" in name), name


def stay(rank: int) -> bool:
    """Whether an evaluation in between leaves stale parameters behind."""
    case = CASES["language_model-dense"]
    mesh = build_mesh(Layout(), "cpu")
    model = build_model(case.config, Layout(), mesh, seed=SEED, device="cpu")
    rows = rows_of(batch(case, 1), *data_parallel(mesh))
    with torch.no_grad():
        before = loss_sums(model, rows).loss
        for tensor in state_tensors(model).values():
            tensor.mul_(0.5)
        return bool(loss_sums(model, rows).loss < before)


def test_restoring_after_an_evaluation_takes_effect() -> None:
    assert run_ranks(2, stay) == [True, True]


@pytest.mark.parametrize(
    ("settings", "world", "message"),
    [
        ({"tensor": 3}, 3, "heads is 4, which the tensor-parallel degree 3 does not divide; .* is 1"),
        ({"tensor": 8}, 8, "heads is 4, which the tensor-parallel degree 8 does not divide; .* is 4"),
        ({"tensor": 4}, 6, "6 ranks cannot be cut into tensor-parallel groups of 4; .* is 2"),
        ({"tensor": 2, "replicas": 4}, 12, "6 data-parallel ranks cannot hold 4 copies .* is 3"),
    ],
)
def test_impossible_layouts_are_refused_with_the_nearest_choice(
    settings: dict[str, int], world: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_layout(Layout(**settings), SMALL, world)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float16"}, "T5 overflows in fp16; use bfloat16"),
        ({"precision": "fp16"}, "T5 overflows in fp16; use bfloat16"),
        ({"precision": "int8"}, "use bfloat16 or float32"),
        ({"recompute": "all"}, "choose one of none, feed_forward, block"),
        ({"tensor": 0}, "must be 1 or more"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Layout(**settings)  # type: ignore[arg-type]


def test_half_precision_needs_a_process_group() -> None:
    with pytest.raises(UserError, match="needs a process group"):
        build_mesh(Layout(precision="bfloat16"), "cpu")


def half(rank: int) -> tuple[set[torch.dtype], torch.dtype, list[float]]:
    case, layout = CASES["encoder_decoder-dense"], Layout(precision="bfloat16")
    mesh = build_mesh(layout, "cpu")
    model = build_model(case.config, layout, mesh, seed=SEED, device="cpu")
    hidden = model(rows_of(batch(case, 1), *data_parallel(mesh)))
    reshard(model)
    outcome = run(case, layout, 2)
    return {p.dtype for p in model.parameters()}, hidden.dtype, outcome.losses


def test_bfloat16_computes_with_float32_master_weights() -> None:
    wanted = run(CASES["encoder_decoder-dense"], Layout(), 2).losses
    for masters, computed, losses in run_ranks(2, half):
        assert (masters, computed) == ({torch.float32}, torch.bfloat16)
        assert losses == pytest.approx(wanted, rel=2e-2)


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_blocks_compile_as_one_graph_a_stack(recompute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **settings: original(function, backend=backend, **settings))
    torch._dynamo.reset()
    case = CASES["encoder_decoder-dense"]
    case = replace(case, config=replace(case.config, encoder_layers=3, decoder_layers=3))
    layout = Layout(compile=True, recompute=recompute)  # type: ignore[arg-type]
    assert run(case, layout, 2).losses == pytest.approx(run(case, Layout(), 2).losses, rel=1e-6)
    assert len(graphs) == 2


def compiled(rank: int) -> list[float]:
    original = torch.compile
    torch.compile = lambda function, **settings: original(function, backend="eager", **settings)  # type: ignore
    return run(CASES["encoder_decoder-dense"], Layout(compile=True, tensor=2, recompute="block"), 2).losses


def test_compilation_stops_at_the_borders_of_tensor_parallelism() -> None:
    wanted = run(CASES["encoder_decoder-dense"], Layout(), 2).losses
    assert run_ranks(2, compiled)[0] == pytest.approx(wanted, rel=1e-5)


def largest(rank: int) -> tuple[int, int, int, int]:
    """Parameters and Adafactor state of 11B held by the first of 64 ranks, and of the whole."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.destroy_process_group()
    dist.init_process_group("fake", rank=0, world_size=64, store=FakeStore())
    layout = Layout(tensor=8, recompute="block")
    with torch.device("meta"):
        model = T5(sized("11B"))
    parallelize(model, build_mesh(layout, "cpu"), layout)
    optimizer = Adafactor(model.parameters())
    slots = [slot for state in optimizer.state.values() for name, slot in state.items() if name != "step"]
    sizes = [sum(local(t.detach()).numel() for t in tensors) for tensors in (list(model.parameters()), slots)]
    dist.destroy_process_group()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return sum(p.numel() for p in model.parameters()), sum(s.numel() for s in slots), sizes[0], sizes[1]


def test_eleven_billion_parameters_are_laid_over_64_ranks_without_memory() -> None:
    ((whole, state, held, held_state),) = run_ranks(1, largest)
    assert whole == sized("11B").parameters() == 11_307_321_344
    # Norms are copied along the tensor-parallel dimension: all else is cut 64 ways.
    assert held == pytest.approx(whole / 64, rel=1e-3)
    assert state < whole / 500
    assert held_state < state / 4
