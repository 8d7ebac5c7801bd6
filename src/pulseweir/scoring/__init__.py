"""Green, steps 6 to 11: from measurements to risk scores."""
