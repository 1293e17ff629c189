"""What holds a program to its place: one module per attach family, `base` for what they share."""
