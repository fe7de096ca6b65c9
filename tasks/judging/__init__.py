"""Judges and their tools: who compares a group's answers, and what may be hidden from them."""
