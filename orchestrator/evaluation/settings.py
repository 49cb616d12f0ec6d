"""How outputs are made, as plain data that travels to evaluators; it also tells whether kept outputs still hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from orchestrator.config import Config

BATCH_POSITIONS = 1 << 14
"""Input positions of a batch of one beam; wider beams take fewer rows."""


@dataclass(frozen=True)
class Settings:
    """Decoding, and the machine part of it: actors, CPUs (threads) of each, compute type."""

    beam: int
    length_penalty: float
    decode_length: int
    input_length: int
    """Tokens of an input, EOS included; longer ones are cut as in training."""
    target_length: int
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    actors: int = 1
    cpus: int = 1

    @classmethod
    def of(cls, config: Config) -> Settings:
        """What `config` says; there are as many actors as train workers unless evaluate.actors says otherwise."""
        inputs = config.objective.input_length
        return cls(
            beam=config.evaluate.beam,
            length_penalty=config.evaluate.length_penalty,
            decode_length=config.evaluate.decode_length,
            input_length=inputs,
            target_length=config.objective.target_length or inputs,
            precision=config.parallel.precision,
            actors=config.evaluate.actors or config.worker_range[0],
            cpus=config.parallel.cpus,
        )

    @property
    def positions(self) -> int:
        """Input positions of a batch."""
        return max(1, BATCH_POSITIONS // self.beam)

    def identity(self) -> dict[str, Any]:
        """What decides the outputs."""
        names = ("beam", "length_penalty", "decode_length", "input_length", "precision")
        return {name: value for name, value in asdict(self).items() if name in names}
