"""What a run keeps: records, the journal, the cache of weights and scores, and the environment."""
