"""Spreads a model written for one device over a mesh of devices, from outside: tables, not edits."""
