"""Tools for pruners: masks, scope, allocation, top-k, inputs of weights, reachability, diagnostics, costs."""
