"""Shared tools that compose, bind and check questions."""
