"""Checks that the gate and publishing share."""
