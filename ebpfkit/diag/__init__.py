"""Explaining rejections: rules, the kernel's messages, its logs, and rendering for people and machines.

What belongs here: rule rows, message templates, the parser of kernel logs, explanations, renderers. What does not:
deciding whether a program is safe (`verifier`), loading it (`loader`).
"""
