"""Image input: fetching, unpacking, reading ahead, decoding, and a cache at a network's size."""
