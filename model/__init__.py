"""The T5 family as plain `torch.nn` code for one device; nothing here knows of sharding."""
