"""Near-duplicate search among texts, in parts that any process can run."""
