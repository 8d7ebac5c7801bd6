"""Steps 1 and 2: the hub that devices connect to."""
