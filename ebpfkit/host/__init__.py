"""This host, explained: what it can do (`probe`), and what its refusals mean and what mends them."""
