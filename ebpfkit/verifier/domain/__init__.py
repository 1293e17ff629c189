"""Abstract values: numbers whose bits and ranges are partly known, and pointers. No state, no policy, no version."""
