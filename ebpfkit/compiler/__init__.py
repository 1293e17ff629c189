"""From a Python function to an ELF object with BTF: source, typed IR, LLVM text, driver. Not here: LLVM itself."""
