"""The control plane: HTTP in, problem documents and task documents out."""
