"""Turns a YAML file into a validated suite, and the suite into a plan: cells, shared work, cost."""
