"""The harness, which runs the cells of a plan and stores their results."""
