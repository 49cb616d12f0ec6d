"""What a run does about faults, as pure policies: restarts, non-finite numbers, spikes, stragglers, odd replicas,
nodes that faults point to."""

from orchestrator.faults.blame import blamed, by_node, silent, suspect_nodes
from orchestrator.faults.numbers import (
    Action,
    NonFinitePolicy,
    NumbersBroken,
    SpikeDetector,
    Window,
    stepped_over,
)
from orchestrator.faults.restarts import Cause, Decision, Failure, RestartPolicy
from orchestrator.faults.stragglers import Straggler, odd_ones_out, stragglers

__all__ = [
    "Action", "Cause", "Decision", "Failure", "NonFinitePolicy", "NumbersBroken", "RestartPolicy", "SpikeDetector",
    "Straggler", "Window", "blamed", "by_node", "odd_ones_out", "silent", "stepped_over", "stragglers", "suspect_nodes",
]  # fmt: skip
