"""The harness: runs the cells of a plan and keeps their results."""
