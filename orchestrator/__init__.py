"""Runs the study on Ray: configuration, scheduler, readers, training, checkpoints, reports."""
