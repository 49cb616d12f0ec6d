"""The shape of a T5 model: every size of the study, its exact parameter count, and the checks on it.

Sizes are those of the paper (section 3.7 and Table 13) and of the v1.1 release.
"""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Literal, get_args

from data.errors import UserError

Architecture = Literal["encoder_decoder", "shared", "language_model", "prefix_lm"]
FeedForwardKind = Literal["relu", "gated-gelu"]

BUCKETS = 32
"""Rows of a relative-bias table (paper section 2.1)."""

MAX_DISTANCE = 128
"""Distance beyond which all offsets fall into the last bucket."""


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Everything that decides a model's parameters and function, apart from their values.

    Raises `UserError` where a value is impossible.
    """

    d_model: int
    """Width of the residual stream."""
    d_ff: int
    """Inner width of the feed-forward."""
    d_kv: int
    """Width of one attention head; heads * d_kv need not equal d_model."""
    heads: int
    encoder_layers: int
    """Blocks of the encoder; 0 for the decoder-only architectures."""
    decoder_layers: int
    vocab_rows: int = 32128
    """Rows of the embedding: the vocabulary padded up to a multiple of 128."""
    feed_forward: FeedForwardKind = "relu"
    tied: bool = True
    """Whether the output projection is the embedding, scaled by d_model ** -0.5 (v1.0)."""
    architecture: Architecture = "encoder_decoder"
    dropout: float = 0.1
    adapter: int | None = None
    """Inner width of the adapter after each feed-forward (Table 10); None has no adapters."""

    def __post_init__(self) -> None:
        for name in ("d_model", "d_ff", "d_kv", "heads", "decoder_layers", "vocab_rows"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout is {self.dropout}; it must be at least 0 and below 1")
        if self.adapter is not None and self.adapter < 1:
            raise UserError(f"model.adapter is {self.adapter}; give a width of 1 or more, or none")
        _one_of("feed_forward", self.feed_forward, get_args(FeedForwardKind))
        _one_of("architecture", self.architecture, get_args(Architecture))
        self._check_depth()

    def _check_depth(self) -> None:
        kind, encoder, decoder = self.architecture, self.encoder_layers, self.decoder_layers
        if self.decoder_only and encoder != 0:
            raise UserError(f"model.encoder_layers is {encoder}, but a {kind} has no encoder; set it to 0")
        if not self.decoder_only and encoder < 1:
            raise UserError(f"model.encoder_layers is {encoder}; architecture {kind} needs 1 or more")
        if kind == "shared" and encoder != decoder:
            raise UserError(
                f"architecture shared uses one stack twice, but model.encoder_layers is {encoder} and "
                f"model.decoder_layers is {decoder}; make them equal"
            )

    @property
    def decoder_only(self) -> bool:
        """Whether one stack reads inputs and targets as one sequence."""
        return self.architecture in ("language_model", "prefix_lm")

    @property
    def inner(self) -> int:
        """Total width of the attention heads."""
        return self.heads * self.d_kv

    def block_parameters(self, *, cross_attention: bool) -> int:
        """Exact number of parameters of one block, norms and adapter included."""
        attentions = 2 if cross_attention else 1
        matrices = 3 if self.feed_forward == "gated-gelu" else 2
        adapter = 0 if self.adapter is None else (2 * self.adapter + 1) * self.d_model
        return (
            attentions * (4 * self.d_model * self.inner + self.d_model)
            + matrices * self.d_model * self.d_ff
            + self.d_model
            + adapter
        )

    def parameters(self) -> int:
        """Exact number of parameters, each shared one counted once."""
        embeddings = (1 if self.tied else 2) * self.vocab_rows * self.d_model
        stack = self.d_model + BUCKETS * self.heads
        decoder = stack + self.decoder_layers * self.block_parameters(cross_attention=not self.decoder_only)
        if self.architecture != "encoder_decoder":
            return embeddings + decoder
        return embeddings + decoder + stack + self.encoder_layers * self.block_parameters(cross_attention=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "T5Config":
        """Inverse of `to_dict`; an unknown or missing key is a `UserError`."""
        known = {field.name for field in dataclasses.fields(cls)}
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if unknown := sorted(values.keys() - known):
            raise UserError(f"model has no setting {unknown[0]!r}{_nearest(unknown[0], known)}")
        if missing := sorted(required - values.keys()):
            raise UserError(f"model lacks the setting {missing[0]!r}; give its value")
        return cls(**values)


def _v10(d_model: int, d_ff: int, d_kv: int, heads: int, layers: int) -> dict[str, Any]:
    return {
        "d_model": d_model,
        "d_ff": d_ff,
        "d_kv": d_kv,
        "heads": heads,
        "encoder_layers": layers,
        "decoder_layers": layers,
    }


def _v11(d_model: int, d_ff: int, heads: int, layers: int) -> dict[str, Any]:
    shape = _v10(d_model, d_ff, 64, heads, layers)
    # The release was pre-trained without dropout; fine-tuning turns 0.1 on.
    return shape | {"feed_forward": "gated-gelu", "tied": False, "dropout": 0.0}


SIZES: dict[str, dict[str, Any]] = {
    "tiny": _v10(128, 512, 32, 4, 2),
    "small": _v10(512, 2048, 64, 8, 6),
    "base": _v10(768, 3072, 64, 12, 12),
    "large": _v10(1024, 4096, 64, 16, 24),
    "3B": _v10(1024, 16384, 128, 32, 24),
    "11B": _v10(1024, 65536, 128, 128, 24),
    "2x": _v10(1024, 4096, 64, 16, 16),
    "4x": _v10(1024, 4096, 64, 16, 32),
    "v1.1-tiny": _v11(128, 320, 4, 2) | {"d_kv": 32},
    "v1.1-small": _v11(512, 1024, 6, 8),
    "v1.1-base": _v11(768, 2048, 12, 12),
    "v1.1-large": _v11(1024, 2816, 16, 24),
    "v1.1-xl": _v11(2048, 5120, 32, 24),
    "v1.1-xxl": _v11(4096, 10240, 64, 24),
}
"""The named sizes; `tiny` and `v1.1-tiny` are for a laptop, the others are published models."""


def sized(name: str, *, layers: int | None = None, **changes: Any) -> T5Config:
    """The config of a named size, with `changes` applied on top.

    `layers` sets the depth of each stack the architecture has (Table 2's half-depth row is
    `sized("base", layers=6)`). A decoder-only architecture gets no encoder without saying so.
    Raises `UserError` for an unknown name or setting.
    """
    if name not in SIZES:
        raise UserError(f"no model size is named {name!r}{_nearest(name, SIZES)}; sizes: {', '.join(SIZES)}")
    shape = SIZES[name] | changes
    if layers is not None:
        shape |= {"encoder_layers": layers, "decoder_layers": layers}
    if shape.get("architecture") in ("language_model", "prefix_lm") and "encoder_layers" not in changes:
        shape["encoder_layers"] = 0
    return T5Config.from_dict(shape)


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"model.{name} is {value!r}{_nearest(value, choices)}; choose one of {', '.join(choices)}")
