"""Prefect flows, the commands and the command line."""
