"""Tools for authors of pruners: masks, scope, allocation, top-k, inputs of weights, reachability, diagnostics."""
