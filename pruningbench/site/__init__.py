"""Turns results into a folder of pages that open from disk, without a server and without requests."""
