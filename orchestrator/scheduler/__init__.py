"""The scheduler: decides, once per event, what the phases of a plan do; keeps ledger and metrics."""
