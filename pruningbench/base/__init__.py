"""What all other packages build on: files, identity and randomness of values, facts about the machine."""
