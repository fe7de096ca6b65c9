"""Read and write the files that people bring: vocabulary, tables, questions and retrieval sets."""
