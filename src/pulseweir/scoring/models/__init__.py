"""Step 10: the risk models, one file each."""
