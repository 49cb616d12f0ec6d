"""What a train worker does: set up, loop, step, evaluate, save. Read `loop` first."""
