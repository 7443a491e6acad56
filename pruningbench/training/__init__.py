"""Training: the one fit loop, its settings, and the recalibration of batch norm."""
