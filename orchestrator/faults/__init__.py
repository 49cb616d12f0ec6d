"""What a run does about faults, as pure policies: restarts, non-finite numbers, spikes, stragglers, odd replicas."""

from orchestrator.faults.numbers import (
    Action,
    NonFinitePolicy,
    NumbersBroken,
    SpikeDetector,
    Window,
    stepped_over,
)
from orchestrator.faults.restarts import Cause, Decision, Failure, RestartPolicy
from orchestrator.faults.stragglers import Straggler, odd_ones_out, stragglers, suspect_nodes

__all__ = [
    "Action", "Cause", "Decision", "Failure", "NonFinitePolicy", "NumbersBroken", "RestartPolicy", "SpikeDetector",
    "Straggler", "Window", "odd_ones_out", "stepped_over", "stragglers", "suspect_nodes",
]  # fmt: skip
