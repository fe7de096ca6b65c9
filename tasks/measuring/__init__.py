"""From answers to effects: each family's metric over slices, and over recorded answers of others."""
