"""The kernel's ABI as data: rows and numbers, no behaviour.

What belongs here: row types (`model`), one table per kind of thing the kernel names (helpers, map types, program types,
attach types, contexts, sections, versions, limits, drivers, kernel functions) and the generated numbers (`uapi`). What
does not: anything that decides, encodes or talks to a kernel.
"""
