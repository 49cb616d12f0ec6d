"""How Hugging Face names a T5's parameters and settings, and how they map to ours.

One table of names serves both directions. Matrices have the same shapes on both sides, except that the
relative-bias table is (32, heads) there and (heads, 32) here.
"""

from collections.abc import Iterator
from typing import Any, get_args

from torch import Tensor

from data.errors import UserError
from model.config import BUCKETS, MAX_DISTANCE, FeedForwardKind, T5Config

_REQUIRED = ("vocab_size", "d_model", "d_ff", "d_kv", "num_heads", "num_layers")


def names(config: T5Config) -> dict[str, str]:
    """Their parameter names, each with ours.

    A shared encoder-decoder is written out as two stacks, so several of theirs may name one of ours. Raises
    `UserError` for what their T5 cannot express.
    """
    if config.decoder_only:
        raise UserError(f"Hugging Face's T5 has no {config.architecture} architecture; only encoder-decoders convert")
    if config.adapter is not None:
        raise UserError(
            f"Hugging Face's T5 has no adapters (model.adapter is {config.adapter}); convert the model without them"
        )
    table = {"shared.weight": "embedding.weight"}
    if not config.tied:
        table["lm_head.weight"] = "head.weight"
    encoder = "decoder" if config.architecture == "shared" else "encoder"
    stacks = [("encoder", encoder, config.encoder_layers), ("decoder", "decoder", config.decoder_layers)]
    for stack, ours, layers in stacks:
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        table[bias] = f"{ours}.relative_bias.weight"
        table[f"{stack}.final_layer_norm.weight"] = f"{ours}.norm.weight"
        for layer in range(layers):
            for theirs, suffix in _block(config, cross_attention=stack == "decoder"):
                table[f"{stack}.block.{layer}.{theirs}.weight"] = f"{ours}.blocks.{layer}.{suffix}.weight"
    return table


def _block(config: T5Config, *, cross_attention: bool) -> Iterator[tuple[str, str]]:
    sublayers = [("SelfAttention", "attention")]
    if cross_attention:
        sublayers.append(("EncDecAttention", "cross_attention"))
    for index, (theirs, ours) in enumerate(sublayers):
        yield f"layer.{index}.layer_norm", f"{ours}_norm"
        for matrix in "qkvo":
            yield f"layer.{index}.{theirs}.{matrix}", f"{ours}.{matrix}"
    last = f"layer.{len(sublayers)}"
    yield f"{last}.layer_norm", "feed_forward_norm"
    gated = {"wi_0": "gate", "wi_1": "wi", "wo": "wo"}
    for theirs, ours in (gated if config.feed_forward == "gated-gelu" else {"wi": "wi", "wo": "wo"}).items():
        yield f"{last}.DenseReluDense.{theirs}", f"feed_forward.{ours}"


def turn(name: str, tensor: Tensor) -> Tensor:
    """The tensor of our parameter `name` in the other side's layout; its own inverse."""
    return tensor.T.contiguous() if name.endswith("relative_bias.weight") else tensor


def is_copy(name: str, config: T5Config) -> bool:
    """Whether their parameter `name` only repeats another, as some published checkpoints do.

    The first checkpoints also hold a relative bias of the cross-attention, which nothing reads.
    """
    if name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight":
        return True
    return name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight") or (
        name == "lm_head.weight" and config.tied
    )


def config_from(settings: dict[str, Any]) -> T5Config:
    """Our config from the contents of their config.json; `UserError` where ours cannot express it."""
    expected = {
        "relative_attention_num_buckets": BUCKETS,
        "relative_attention_max_distance": MAX_DISTANCE,
        "layer_norm_epsilon": 1e-6,
        "model_type": "t5",
    }
    for key, value in expected.items():
        if settings.get(key, value) != value:
            raise UserError(f"config.json sets {key} to {settings[key]!r}; only {value!r} is supported")
    activation = settings.get("feed_forward_proj", "relu")
    if activation not in get_args(FeedForwardKind):
        raise UserError(
            f"config.json sets feed_forward_proj to {activation!r}; supported: {', '.join(get_args(FeedForwardKind))}"
        )
    if missing := [key for key in _REQUIRED if key not in settings]:
        raise UserError(f"config.json lacks {missing[0]!r}; get the model's own config.json")
    layers = settings["num_layers"]
    return T5Config(
        vocab_rows=settings["vocab_size"],
        d_model=settings["d_model"],
        d_ff=settings["d_ff"],
        d_kv=settings["d_kv"],
        heads=settings["num_heads"],
        encoder_layers=layers,
        decoder_layers=settings.get("num_decoder_layers") or layers,
        feed_forward=activation,
        # Newer releases always claim tied embeddings and say in a second key what they mean.
        tied=settings.get("scale_decoder_outputs", settings.get("tie_word_embeddings", True)),
        dropout=settings.get("dropout_rate", 0.1),
    )


def config_to(config: T5Config) -> dict[str, Any]:
    """The contents of their config.json for our config, understood by releases 4 and 5."""
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_rows,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "d_kv": config.d_kv,
        "num_heads": config.heads,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.decoder_layers,
        "feed_forward_proj": config.feed_forward,
        "tie_word_embeddings": config.tied,
        "scale_decoder_outputs": config.tied,
        "dropout_rate": config.dropout,
        "relative_attention_num_buckets": BUCKETS,
        "relative_attention_max_distance": MAX_DISTANCE,
        "layer_norm_epsilon": 1e-6,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "use_cache": True,
    }
