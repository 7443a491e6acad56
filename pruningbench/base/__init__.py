"""What every room stands on: files, identity and randomness of values, facts about the machine."""
