"""T5 written out for one example in float64, with loops and none of the model's code, for comparison."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from model.config import T5Config

Parameters = dict[str, Tensor]
Visible = Callable[[int, int], bool]


def bucket(offset: int, bidirectional: bool) -> int:
    """The bucket formula of the original in floating point, for key - query = `offset`."""
    buckets, base, distance = 32, 0, max(-offset, 0)
    if bidirectional:
        buckets, base, distance = 16, 16 if offset > 0 else 0, abs(offset)
    exact = buckets // 2
    if distance < exact:
        return base + distance
    step = math.log(distance / exact) / math.log(128 / exact) * (buckets - exact)
    return base + min(buckets - 1, exact + int(step + 1e-9))


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return torch.stack([row / math.sqrt(float(row @ row) / len(row) + 1e-6) * weight for row in x])


def attention(p: Parameters, name: str, x: Tensor, source: Tensor, d_kv: int, visible: Visible, bias) -> Tensor:
    q, k, v = (y @ p[f"{name}.{m}.weight"].T for y, m in ((x, "q"), (source, "k"), (source, "v")))
    out = torch.zeros(len(x), q.shape[1], dtype=torch.float64)
    for head in range(q.shape[1] // d_kv):
        part = slice(head * d_kv, (head + 1) * d_kv)
        for i in range(len(x)):
            seen = [j for j in range(len(source)) if visible(i, j)]
            logits = [float(q[i, part] @ k[j, part]) + bias(head, i, j) for j in seen]
            total = sum(math.exp(z) for z in logits)
            for j, z in zip(seen, logits, strict=True):
                out[i, part] += math.exp(z) / total * v[j, part]
    return out @ p[f"{name}.o.weight"].T


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def feed_forward(p: Parameters, name: str, x: Tensor) -> Tensor:
    inner = x @ p[f"{name}.wi.weight"].T
    gate = p.get(f"{name}.gate.weight")
    inner = inner.clamp(min=0) if gate is None else gelu(x @ gate.T) * inner
    return inner @ p[f"{name}.wo.weight"].T


def stack(
    p: Parameters, config: T5Config, name: str, layers: int, ids: list[int], visible: Visible,
    bidirectional: bool, memory: Tensor | None = None,
) -> Tensor:  # fmt: skip
    x = torch.stack([p["embedding.weight"][i] for i in ids])
    table = p[f"{name}.relative_bias.weight"]
    relative = lambda h, i, j: float(table[h, bucket(j - i, bidirectional)])  # noqa: E731
    for layer in range(layers):
        block = f"{name}.blocks.{layer}"
        y = norm(x, p[f"{block}.attention_norm.weight"])
        x = x + attention(p, f"{block}.attention", y, y, config.d_kv, visible, relative)
        if memory is not None:
            y = norm(x, p[f"{block}.cross_attention_norm.weight"])
            x = x + attention(
                p, f"{block}.cross_attention", y, memory, config.d_kv, lambda i, j: True, lambda h, i, j: 0.0
            )
        x = x + feed_forward(p, f"{block}.feed_forward", norm(x, p[f"{block}.feed_forward_norm.weight"]))
        if config.adapter is not None:
            y = norm(x, p[f"{block}.adapter_norm.weight"])
            inner = (y @ p[f"{block}.adapter.down.weight"].T).clamp(min=0)
            x = x + inner @ p[f"{block}.adapter.up.weight"].T
    return norm(x, p[f"{name}.norm.weight"])


def hidden(p: Parameters, config: T5Config, inputs: list[int], targets: list[int], prefix: int = 0) -> Tensor:
    """(T, D) hidden states of one example; `prefix` counts the fully visible positions of a prefix LM."""
    shifted = [0, *targets[:-1]]
    memory = None
    if not config.decoder_only:
        name = "decoder" if config.architecture == "shared" else "encoder"
        memory = stack(p, config, name, config.encoder_layers, inputs, lambda i, j: True, bidirectional=True)
    return stack(
        p, config, "decoder", config.decoder_layers, shifted, lambda i, j: j <= i or j < prefix,
        bidirectional=config.architecture == "prefix_lm", memory=memory,
    )  # fmt: skip
