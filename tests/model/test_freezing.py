"""Which parameters train when."""

import pytest

from data.errors import UserError
from model.config import sized
from model.freezing import episode, freeze, trained_names
from model.source import parameter_shapes
from model.transformer import T5

STEPS = 2**18


def blocks(names: set[str], stack: str) -> set[int]:
    return {int(name.split(".")[2]) for name in names if name.startswith(f"{stack}.blocks.")}


def test_all() -> None:
    config = sized("tiny")
    assert (
        trained_names(config, "all") == set(parameter_shapes(config)) == {n for n, _ in T5(config).named_parameters()}
    )


def test_the_papers_episodes_have_21845_steps() -> None:
    assert [episode(s, STEPS) for s in (0, 21844, 21845, 240294, 240295, STEPS - 1)] == [1, 1, 2, 11, 12, 12]


def test_blocks_unfreeze_from_the_top_of_both_stacks() -> None:
    config = sized("base")
    for number, first in enumerate(range(0, 12 * 21845, 21845), start=1):
        names = trained_names(config, "gradual_unfreezing", first, STEPS)
        expected = set(range(12 - number, 12))
        assert blocks(names, "encoder") == blocks(names, "decoder") == expected
        assert {"embedding.weight", "encoder.norm.weight", "decoder.norm.weight"} <= names
        assert ("encoder.relative_bias.weight" in names) == (number == 12)
    assert names == set(parameter_shapes(config))


@pytest.mark.parametrize(
    ("layers", "episodes", "expected"), [(24, 12, [2, 4, 24]), (2, 12, [1, 1, 2]), (6, 4, [2, 3, 6])]
)
def test_other_depths_are_spread_over_the_episodes(layers: int, episodes: int, expected: list[int]) -> None:
    config = sized("tiny", layers=layers)
    counts = []
    for number in range(1, episodes + 1):
        names = trained_names(config, "gradual_unfreezing", number - 1, episodes, episodes)
        counts.append(len(blocks(names, "decoder")))
    assert [counts[0], counts[1], counts[-1]] == expected
    assert counts == sorted(counts)


def test_decoder_only_and_untied_models_unfreeze_too() -> None:
    names = trained_names(sized("tiny", architecture="prefix_lm"), "gradual_unfreezing", 0, STEPS)
    assert blocks(names, "decoder") == {1}
    assert "head.weight" in trained_names(sized("v1.1-tiny"), "gradual_unfreezing", 0, STEPS)


def test_adapters_train_alone_or_with_all_norms() -> None:
    config = sized("base", adapter=32)
    alone, with_norms = trained_names(config, "adapters"), trained_names(config, "adapters_and_norms")
    assert len(alone) == 24 * 3
    assert {name for name in with_norms - alone if not name.endswith("norm.weight")} == set()
    assert len(with_norms) == 24 * 3 + 12 * 2 + 12 * 3 + 2
    model = T5(sized("tiny", adapter=8, vocab_rows=128))
    freeze(model, trained_names(model.config, "adapters"))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trainable == 4 * (2 * 128 * 8 + 128)


@pytest.mark.parametrize(
    ("method", "steps", "episodes", "message"),
    [
        ("adapters", 1, 1, "the model has none; set model.adapter"),
        ("gradual", 1, 1, "no training method is named 'gradual'"),
        ("gradual_unfreezing", 5, 12, "5 steps cannot be cut into 12 episodes"),
        ("gradual_unfreezing", 5, 0, "cannot be cut into 0 episodes"),
    ],
)
def test_what_does_not_fit_is_refused(method: str, steps: int, episodes: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trained_names(sized("tiny"), method, 0, steps, episodes)
