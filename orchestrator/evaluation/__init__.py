"""What a trained model does with text: weights restored whole, blanks filled, tasks decoded and scored."""
