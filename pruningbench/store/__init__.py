"""What a run stores: records, the journal, the cache of weights and scores, and the environment."""
