"""Measurements beside the peers a user would otherwise take: same text or tensors, one run, ratios.

    python -m benchmarks.data          records to batches; Hugging Face, seqio and SentencePiece beside it
    python -m benchmarks.checkpoint    what saving costs a step; save and load beside the plain disk; recovery
    python -m benchmarks.goodput       simulated share of useful time on large clusters, with a picture
    python -m benchmarks.train_step    a whole training step; Hugging Face's T5 beside it

All take `--json`, and `--save` writes what was measured, with the machine, to `benchmarks/results/`.
"""
