"""From bytes in a file to pixels in an array."""
