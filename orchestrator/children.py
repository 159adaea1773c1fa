"""Instances that instances have started."""
