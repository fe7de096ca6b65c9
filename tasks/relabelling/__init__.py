"""Relabelling hard negatives: rules before any call, evidence, ranking, policies, and what they cost."""
