"""Floating-point operations of a training step by the exact formula, and the peak rates of known devices."""

from __future__ import annotations

import torch

from model.config import T5Config

PEAK_BF16 = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12, "L40S": 362e12, "A10G": 70e12}
"""Dense bf16 peak by part of a device's name, operations a second, from the makers' data sheets."""


def forward_flops(config: T5Config, input_length: int, target_length: int) -> float:
    """Operations of one sequence's forward pass, a multiply-add counted as two.

    Linear layers of each stack over its own positions, cross-attention's keys and values over the inputs, attention
    products in full (no causal skipping), the output matrix over the targets; embeddings are look-ups and count 0.
    Decoder-only models run their one stack over `target_length` positions, the joined sequence.
    """
    d, inner, s, t = config.d_model, config.inner, input_length, target_length
    matrices = 3 if config.feed_forward == "gated-gelu" else 2
    adapter = 0 if config.adapter is None else 2 * d * config.adapter
    linear = 4 * d * inner + matrices * d * config.d_ff + adapter
    decoder = config.decoder_layers * (2 * t * linear + 4 * t * t * inner)
    head = 2 * t * d * config.vocab_rows
    if config.decoder_only:
        return float(decoder + head)
    encoder = config.encoder_layers * (2 * s * linear + 4 * s * s * inner)
    cross = config.decoder_layers * (4 * t * d * inner + 4 * s * d * inner + 4 * t * s * inner)
    return float(encoder + decoder + cross + head)


def train_flops(config: T5Config, rows: int, input_length: int, target_length: int) -> float:
    """Useful operations of a step of `rows` sequences: three forward passes; recomputation is not counted."""
    return 3.0 * rows * forward_flops(config, input_length, target_length)


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of a CUDA device, None where it is not known (and for CPUs)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for part, rate in PEAK_BF16.items() if part in name), None)
