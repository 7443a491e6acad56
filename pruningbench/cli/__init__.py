"""The command line: one small file per command that parses arguments, calls the library and prints."""
