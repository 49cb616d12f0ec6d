"""Sizes, their exact parameter counts, and what a wrong setting is told."""

import pytest
import torch

from data.errors import UserError
from model.config import SIZES, T5Config, sized
from model.transformer import T5

# Counts published for the released checkpoints and, for 2x and 4x, implied by their shapes.
PARAMETERS = {
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "3B": 2_851_598_336,
    "11B": 11_307_321_344,
    "2x": 502_746_112,
    "4x": 972_590_080,
    "v1.1-small": 76_961_152,
    "v1.1-base": 247_577_856,
    "v1.1-large": 783_150_080,
    "v1.1-xl": 2_849_757_184,
    "v1.1-xxl": 11_135_332_352,
}


def built(config: T5Config) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in T5(config).parameters())


@pytest.mark.parametrize("name", SIZES)
def test_counts_are_the_published_ones_and_those_of_the_built_model(name: str) -> None:
    config = sized(name)
    assert config.parameters() == PARAMETERS.get(name, config.parameters())
    assert built(config) == config.parameters()


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"architecture": "shared"}, 137.9),
        ({"layers": 6}, 123.8),
        ({"architecture": "language_model"}, 109.6),
        ({"architecture": "prefix_lm"}, 109.6),
    ],
)
def test_architectures_of_table_2(changes: dict, millions: float) -> None:
    config = sized("base", **changes)
    assert round(config.parameters() / 1e6, 1) == millions
    assert built(config) == config.parameters()


@pytest.mark.parametrize(("width", "millions"), [(32, 1.18), (128, 4.72), (512, 18.9), (2048, 75.5)])
def test_adapters_add_what_table_10_implies(width: int, millions: float) -> None:
    config = sized("base", adapter=width)
    added = config.parameters() - sized("base").parameters() - 24 * 768
    assert added == 2 * 768 * width * 24
    assert added / 1e6 == pytest.approx(millions, abs=0.05)
    assert built(config) == config.parameters()


def test_a_config_survives_json() -> None:
    config = sized("v1.1-base", adapter=64)
    assert T5Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("smal", {}, "no model size is named 'smal'; did you mean 'small'"),
        ("tiny", {"heads": 0}, "model.heads is 0"),
        ("tiny", {"dropout": 1.0}, "model.dropout is 1.0"),
        ("tiny", {"architecture": "prefixlm"}, "did you mean 'prefix_lm'"),
        ("tiny", {"feed_forward": "gelu"}, "model.feed_forward is 'gelu'"),
        ("tiny", {"architecture": "language_model", "encoder_layers": 2}, "has no encoder; set it to 0"),
        ("tiny", {"architecture": "shared", "encoder_layers": 1}, "make them equal"),
        ("tiny", {"encoder_layers": 0}, "model.encoder_layers is 0"),
        ("tiny", {"adapter": 0}, "model.adapter is 0"),
        ("tiny", {"headz": 4}, "no setting 'headz'; did you mean 'heads'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_mend(name: str, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sized(name, **changes)
