"""Turning a trained model into text: greedy and beam search over cached keys and values, and scoring."""
