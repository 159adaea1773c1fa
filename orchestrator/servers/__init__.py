"""Servers and processes of our own: what `embedded`, `supervisor` and the stacks are made of."""
