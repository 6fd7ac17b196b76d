"""The referee: methods against imbalance, compared fairly on the same cases, seeds and budget."""
