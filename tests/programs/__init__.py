"""Every example program runs."""
