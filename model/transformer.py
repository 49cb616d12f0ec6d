"""T5 as one device sees it: blocks, stacks and the four architectures of the study.

Sublayers are x + dropout(sublayer(norm(x))) (paper section 2.1, Mesh-TensorFlow code). Nothing here knows of
sharding: blocks are uniform modules that take everything they need as tensors, so that a layout can shard,
recompute or compile each of them from outside.

Shape letters: B rows, T target and S input length, D d_model, H heads.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import UserError
from model import masks
from model.attention import Attention
from model.config import T5Config
from model.decoding.cache import BlockCache
from model.dropout import Dropout, derive, fold
from model.layers import Adapter, FeedForward, RMSNorm
from model.relative_bias import RelativeBias


@dataclass
class Batch:
    """Rows of token ids for one forward pass; None segments say that every row is one unpadded example."""

    inputs: Tensor | None
    """(B, S) int64 ids of the encoder; None for the decoder-only architectures."""
    targets: Tensor
    """(B, T) int64 ids to predict; for decoder-only architectures the joined sequence."""
    input_segments: Tensor | None = None
    """(B, S) integers: which example each position belongs to, from 1; 0 is padding."""
    target_segments: Tensor | None = None
    """(B, T), likewise. Rows that are only padded at their end need none: nothing earlier sees padding."""
    prefix: Tensor | None = None
    """(B, T) bool of prefix LM: positions every query of the example may see."""
    loss_mask: Tensor | None = None
    """(B, T) bool: positions that count in the loss; None counts every id but 0."""
    row_keys: Tensor | None = None
    """(B,) int64 dropout keys, one a row and step; None turns dropout off."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on `device`."""
        moved: dict[str, Any] = {
            field.name: None if (x := getattr(self, field.name)) is None else x.to(device, non_blocking=True)
            for field in fields(self)
        }
        return Batch(**moved)

    def counted(self) -> Tensor:
        """(B, T) bool: positions that count in the loss."""
        return self.targets != 0 if self.loss_mask is None else self.loss_mask


class Block(nn.Module):
    """One layer of a stack: self-attention, attention to the encoder where there is one, feed-forward."""

    def __init__(self, config: T5Config, *, cross_attention: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config, site=0)
        self.attention_dropout = Dropout(config.dropout, site=1)
        self.cross_attention: Attention | None = None
        if cross_attention:
            self.cross_attention_norm = RMSNorm(config.d_model)
            self.cross_attention = Attention(config, site=2)
            self.cross_attention_dropout = Dropout(config.dropout, site=3)
        self.feed_forward_norm = RMSNorm(config.d_model)
        self.feed_forward = FeedForward(config, site=4)
        self.feed_forward_dropout = Dropout(config.dropout, site=5)
        self.adapter: Adapter | None = None
        if config.adapter is not None:
            self.adapter_norm = RMSNorm(config.d_model)
            self.adapter = Adapter(config.d_model, config.adapter)
            self.adapter_dropout = Dropout(config.dropout, site=6)

    def forward(
        self,
        x_BTD: Tensor,
        bias: Tensor | None = None,
        keys: Tensor | None = None,
        memory_BSD: Tensor | None = None,
        memory_bias: Tensor | None = None,
        cache: BlockCache | None = None,
    ) -> Tensor:
        """(B, T, D) to the same; `memory_BSD` is the encoder's output, None in an encoder."""
        attended = self.attention(
            self.attention_norm(x_BTD), bias, keys, cache=None if cache is None else cache.attention
        )
        x_BTD = x_BTD + self.attention_dropout(attended, keys)
        if self.cross_attention is not None and memory_BSD is not None:
            attended = self.cross_attention(
                self.cross_attention_norm(x_BTD),
                memory_bias,
                keys,
                memory_BSD,
                cache=None if cache is None else cache.cross_attention,
            )
            x_BTD = x_BTD + self.cross_attention_dropout(attended, keys)
        inner = self.feed_forward(self.feed_forward_norm(x_BTD), keys)
        x_BTD = x_BTD + self.feed_forward_dropout(inner, keys)
        if self.adapter is not None:
            x_BTD = x_BTD + self.adapter_dropout(self.adapter(self.adapter_norm(x_BTD)), keys)
        return x_BTD


class Stack(nn.Module):
    """Dropout, blocks, norm, dropout; the relative bias is made once and handed to every block."""

    def __init__(self, config: T5Config, layers: int, *, cross_attention: bool) -> None:
        super().__init__()
        self.relative_bias = RelativeBias(config.heads)
        self.embedding_dropout = Dropout(config.dropout, site=0)
        self.blocks = nn.ModuleList(Block(config, cross_attention=cross_attention) for _ in range(layers))
        self.norm = RMSNorm(config.d_model)
        self.output_dropout = Dropout(config.dropout, site=1)

    def forward(
        self,
        x_BTD: Tensor,
        visible: Tensor | None,
        *,
        bidirectional: bool,
        keys: Tensor | None = None,
        memory_BSD: Tensor | None = None,
        memory_visible: Tensor | None = None,
        caches: list[BlockCache] | None = None,
    ) -> Tensor:
        """Normalized output (B, T, D) for embedded tokens (B, T, D).

        `visible` and `memory_visible` are boolean masks (broadcast to (B, H, T, S)), None where everything
        is seen. `caches` (one a block) continue sequences of which earlier positions are held there.
        """
        start = 0 if caches is None else caches[0].attention.length
        length = x_BTD.shape[1]
        bias = self.relative_bias(length, start + length, bidirectional=bidirectional, first_query=start)
        bias = bias.to(x_BTD.dtype)
        if visible is not None:
            bias = bias + masks.additive(visible, bias.dtype)
        memory_bias = None if memory_visible is None else masks.additive(memory_visible, x_BTD.dtype)
        x_BTD = self.embedding_dropout(x_BTD, keys)
        for index, block in enumerate(self.blocks):
            # Keys differ by layer and sites only within one, so that all blocks share one compiled graph.
            layer_keys = None if keys is None else derive(keys, 2 + index)
            cache = None if caches is None else caches[index]
            x_BTD = block(x_BTD, bias, layer_keys, memory_BSD, memory_bias, cache)
        out: Tensor = self.output_dropout(self.norm(x_BTD), keys)
        return out


class T5(nn.Module):
    """A model of the family; parameters are set by `model.initialize.initialize` or a checkpoint.

    The shared architecture runs its decoder's stack, without the attention to the encoder, as its encoder.
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_rows, config.d_model)
        self.encoder: Stack | None = None
        if config.architecture == "encoder_decoder":
            self.encoder = Stack(config, config.encoder_layers, cross_attention=False)
        self.decoder = Stack(config, config.decoder_layers, cross_attention=not config.decoder_only)
        self.head = None if config.tied else nn.Linear(config.d_model, config.vocab_rows, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        """Hidden states (B, T, D) that predict `batch.targets`; `project` turns them into logits."""
        keys = None if batch.row_keys is None else fold(batch.row_keys)
        decoder_keys = None if keys is None else derive(keys, 1)
        length = batch.targets.shape[1]
        bidirectional = self.config.architecture == "prefix_lm"
        if bidirectional and batch.prefix is None:
            raise UserError("a prefix_lm batch must say which positions are fully visible; give Batch.prefix")
        visible = masks.decoder_mask(
            length, batch.target_segments, batch.prefix if bidirectional else None, batch.targets.device
        )
        memory = None if self.config.decoder_only else self.encode(batch, keys)
        hidden: Tensor = self.decoder(
            self.embedding(shift_right(batch.targets, batch.target_segments)),
            visible,
            bidirectional=bidirectional,
            keys=decoder_keys,
            memory_BSD=memory,
            memory_visible=None if memory is None else masks.cross_mask(batch.target_segments, batch.input_segments),
        )
        return hidden

    def encode(self, batch: Batch, keys: Tensor | None = None) -> Tensor:
        """Encoder output (B, S, D) of `batch.inputs`; `keys` (B,) are folded dropout keys."""
        if batch.inputs is None:
            raise UserError(f"a batch of an {self.config.architecture} model needs inputs; Batch.inputs is None")
        stack = self.decoder if self.encoder is None else self.encoder
        segments = batch.input_segments
        memory: Tensor = stack(
            self.embedding(batch.inputs),
            None if segments is None else masks.same_segment(segments, segments),
            bidirectional=True,
            keys=None if keys is None else derive(keys, 0),
        )
        return memory

    def decode(
        self,
        ids: Tensor,
        caches: list[BlockCache],
        *,
        memory: Tensor | None = None,
        input_segments: Tensor | None = None,
        real: Tensor | None = None,
    ) -> Tensor:
        """Hidden states (B, L, D) of `ids` (B, L), which follow the positions that `caches` hold.

        `memory` is the encoder's output and `input_segments` tells its padding (None: there is none). For
        decoder-only architectures, the first call gives the whole prompt, start symbol included, and `real`
        (B, positions so far + L) bool says which positions are not padding.
        """
        start, length = caches[0].attention.length, ids.shape[1]
        bidirectional = self.config.architecture == "prefix_lm"
        visible = None
        if length > 1 and not (bidirectional and start == 0):
            visible = masks.causal(length, start + length, first_query=start, device=ids.device)
        if real is not None:
            visible = real[:, None, None, :] if visible is None else visible & real[:, None, None, :]
        hidden: Tensor = self.decoder(
            self.embedding(ids),
            visible,
            bidirectional=bidirectional,
            memory_BSD=memory,
            memory_visible=masks.cross_mask(None, input_segments),
            caches=caches,
        )
        return hidden

    def project(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocab_rows) of hidden states (..., D)."""
        return F.linear(self.scale_output(hidden), self.output_weight)

    def scale_output(self, hidden: Tensor) -> Tensor:
        """Hidden states as the output matrix expects them: a tied embedding has rows of norm sqrt(D)."""
        return hidden * self.config.d_model**-0.5 if self.head is None else hidden

    @property
    def output_weight(self) -> Tensor:
        """The output matrix (vocab_rows, D)."""
        return self.embedding.weight if self.head is None else self.head.weight


def shift_right(targets: Tensor, segments: Tensor | None) -> Tensor:
    """Decoder inputs: targets moved one place right, with id 0 at the start of every example."""
    shifted = F.pad(targets[:, :-1], (1, 0))
    if segments is None:
        return shifted
    # What is taken for the segment before the first one does not matter: there the shifted id is 0 anyway.
    return shifted * (segments == F.pad(segments[:, :-1], (1, 0)))
