"""Text: normalisation, slots, similarity, redaction, and detection of faults."""
