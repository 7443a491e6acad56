"""From a YAML file to a validated suite, and from it to the plan: cells, shared work, cost."""
