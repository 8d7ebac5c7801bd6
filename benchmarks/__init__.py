"""Measured figures, as ratios against what a user would otherwise pick, in the same run."""
