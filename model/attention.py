"""Multi-head attention without 1/sqrt(d): that factor lives in the initial scale of the queries (paper section 2.1).

Shape letters: B rows, T queries, S keys, D d_model, H heads held here, K d_kv.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.config import T5Config
from model.cpu_attention import TrainedBiasAttention
from model.decoding.cache import KeyValues
from model.dropout import AttentionDropout


class Attention(nn.Module):
    """Self-attention, or attention to `source` where one is given.

    The number of heads follows from the width of the projections, not from the config, so a layout may give
    each device some of them.
    """

    def __init__(self, config: T5Config, site: int) -> None:
        super().__init__()
        self.d_kv = config.d_kv
        self.q = nn.Linear(config.d_model, config.inner, bias=False)
        self.k = nn.Linear(config.d_model, config.inner, bias=False)
        self.v = nn.Linear(config.d_model, config.inner, bias=False)
        self.o = nn.Linear(config.inner, config.d_model, bias=False)
        self.dropout = AttentionDropout(config.dropout, site)

    def forward(
        self,
        x_BTD: Tensor,
        bias: Tensor | None = None,
        keys: Tensor | None = None,
        source_BSD: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """Attended values (B, T, D).

        `bias` is added to the logits and broadcasts to (B, H, T, S); None sees everything. `keys` (B,) are
        dropout keys. `cache` holds the keys and values of earlier positions, or those of the whole source.
        """
        q_BHTK = self._heads(self.q(x_BTD))
        if cache is not None and source_BSD is not None and cache.length:
            k_BHSK, v_BHSK = cache.read()
        else:
            source = x_BTD if source_BSD is None else source_BSD
            k_BHSK, v_BHSK = self._heads(self.k(source)), self._heads(self.v(source))
            if cache is not None:
                k_BHSK, v_BHSK = cache.append(k_BHSK, v_BHSK)
        out_BHTK = attend(q_BHTK, k_BHSK, self.dropout(v_BHSK, keys), bias)
        out: Tensor = self.o(out_BHTK.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x_BLI: Tensor) -> Tensor:
        rows, length, _ = x_BLI.shape
        return x_BLI.view(rows, length, -1, self.d_kv).transpose(1, 2)


def attend(q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k + bias) v, (B, H, T, K)."""
    if bias is not None and bias.requires_grad and bias.device.type == "cpu":
        out: Tensor = TrainedBiasAttention.apply(q_BHTK, k_BHSK, v_BHSK, bias)  # type: ignore[no-untyped-call]
        return out
    if bias is not None and bias.is_cuda:
        # cuDNN gives a bias no gradient, and beside one its other gradients have been NaN for some lengths. The
        # same kernels serve evaluation, so that its numbers are those of training.
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias, scale=1.0)
    return F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=bias, scale=1.0)
