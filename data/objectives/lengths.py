"""How long the raw segments are: the arithmetic that lets span corruption fill its rows without padding."""

from __future__ import annotations

from data.errors import UserError

MOST_RAW = 100
"""Raw segments longer than this many times the inputs are refused."""


def noise_counts(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """(masked tokens, spans) of a segment of `length` tokens; rounding is half to even, as in the original."""
    length = max(length, 2)
    noise = min(max(round(length * density), 1), length - 1)
    spans = max(1, round(noise / mean_span))
    return noise, min(spans, noise, length - noise)


def span_lengths(inputs_length: int, density: float, mean_span: float) -> tuple[int, int]:
    """(raw tokens a segment, target length with EOS): the longest segment whose inputs fit `inputs_length` with
    EOS.

    The search starts at `inputs_length` − 1 tokens and grows; at density 0.5 one token is given back where the
    targets would come out longer than the inputs (the rule of the released code).
    """
    if inputs_length < 3:
        raise UserError(f"inputs of {inputs_length} tokens are too short for span corruption; use at least 3")

    def sizes(raw: int) -> tuple[int, int]:
        noise, spans = round(raw * density), round(round(raw * density) / mean_span)
        return raw - noise + spans + 1, noise + spans + 1

    raw = inputs_length - 1
    while sizes(raw + 1)[0] <= inputs_length:
        raw += 1
        if raw > MOST_RAW * inputs_length:
            raise UserError(f"density {density} leaves too little of the text in the inputs; lower it")
    inputs, targets = sizes(raw)
    if density == 0.5 and targets > inputs:
        return raw - 1, targets - 1
    return raw, targets
