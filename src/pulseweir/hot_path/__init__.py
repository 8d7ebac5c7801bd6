"""Red, steps 12 to 15: from risk scores to the people who must know."""
