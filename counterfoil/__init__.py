"""The public Python API of Counterfoil."""
