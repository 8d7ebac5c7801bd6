"""Orange, steps 16 to 18: care coordination."""
