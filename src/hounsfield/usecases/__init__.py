"""One verb per file: a frozen request in, a frozen result out; progress by events."""
