"""Records, tables, ids and errors. Imports nothing else of this project."""
