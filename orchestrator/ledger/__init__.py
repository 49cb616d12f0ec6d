"""The ledger: what happened to a run, appended as it happens, read with one command, goodput computed from it.

Kinds and the fields that the summary uses (others may be added freely):

`start` versions, configuration digest · `attempt` step (last step already done), world, nodes · `loaded` step,
build_seconds, load_seconds (of the attempt before it, on rank 0) · `progress` first, last, seconds (time in these
steps) · `checkpoint` step, folder, checkpoint ("permanent" or "ephemeral"), bytes, seconds, stall_seconds ·
`checkpoint_failed` step, message · `checkpoint_collected` collected · `checkpoint_skipped` folder, reason (passed over
on resuming) · `worker_failed` rank, node, step (last complete one), error · `fault` fault (its class in a word), step,
node, rank, message, waiting (a hang: for another rank, so this node is not at fault) · `suspect_node` node, faults
(that point to it; see `orchestrator.faults.blame`) · `nonfinite` step · `loss_spike` step, loss, score · `straggler`
step, node, rank, ratio · `window_skipped` first, last (steps whose data was stepped over) · `grow` world (the group
that left to go on as a larger one) · `config_changed` changes · `outcome` outcome, reason.
"""

from orchestrator.ledger.goodput import Summary, summarize
from orchestrator.ledger.journal import Event, Ledger, read_events

__all__ = ["Event", "Ledger", "Summary", "read_events", "summarize"]
