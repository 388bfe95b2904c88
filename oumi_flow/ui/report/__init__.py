"""A run as one page of HTML: facts in, text out. Reads no file, asks no clock, fetches nothing."""
