"""Images on their way in: fetched, unpacked, read ahead, decoded, and kept at a network's size."""
