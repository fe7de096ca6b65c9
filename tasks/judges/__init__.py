"""Shared tools that judge answers: divergence, comparison, panels and relevance."""
