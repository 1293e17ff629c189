"""Maps without a kernel: the store protocol, in-memory stores, and codecs between Python values and bytes.

Maps in the running kernel are in `ebpfkit.loader`; the language's map facades are in `ebpfkit.dsl`.
"""
