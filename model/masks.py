"""Which query sees which key, as boolean masks, and their additive form.

Segments number the examples packed into a row from 1; 0 is padding. A dense row (no padding, one example)
has no segments and, in full attention, no mask at all.
"""

import torch
from torch import Tensor

HIDDEN = -1e9
"""Added to the logits of hidden keys: finite, so that a query which sees nothing gets no NaN."""


def padding_segments(ids: Tensor) -> Tensor:
    """Segments (B, L) int64 of rows that hold one example each and are padded with id 0 at the end."""
    return (ids != 0).long()


def same_segment(queries_BT: Tensor, keys_BS: Tensor) -> Tensor:
    """Bool (B, 1, T, S): query and key belong to one example."""
    return (queries_BT[:, :, None] == keys_BS[:, None, :])[:, None]


def causal(queries: int, keys: int, *, first_query: int = 0, device: torch.device | None = None) -> Tensor:
    """Bool (1, 1, T, S): the key is not after the query, which stands at `first_query` + row."""
    query = torch.arange(first_query, first_query + queries, device=device)
    return (torch.arange(keys, device=device)[None, :] <= query[:, None])[None, None]


def decoder_mask(length: int, segments_BT: Tensor | None, prefix_BT: Tensor | None, device: torch.device) -> Tensor:
    """Bool (B or 1, 1, T, T) of a decoder's self-attention.

    `prefix_BT` (bool) marks the fully visible part of prefix LM rows: its keys are seen by every query of
    their example.
    """
    visible = causal(length, length, device=device)
    if prefix_BT is not None:
        visible = visible | prefix_BT[:, None, None, :]
    if segments_BT is not None:
        visible = visible & same_segment(segments_BT, segments_BT)
    return visible


def cross_mask(targets_BT: Tensor | None, inputs_BS: Tensor | None) -> Tensor | None:
    """Bool (B, 1, T or 1, S) of encoder-decoder attention from the segments; None where all is visible."""
    if inputs_BS is None:
        return None
    if targets_BT is None:
        return (inputs_BS != 0)[:, None, None, :]
    return same_segment(targets_BT, inputs_BS)


def additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, a large negative number elsewhere."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, HIDDEN)
