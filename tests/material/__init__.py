"""Example tables, releases and texts of tests and benchmarks."""
