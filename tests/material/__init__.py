"""Material that tests and benchmarks share: example tables, releases and texts."""
